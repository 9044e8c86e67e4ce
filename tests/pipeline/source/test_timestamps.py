from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.source.timestamps import are_clean, frame_rate, gaps, repair, typical_step

increasing = st.lists(st.integers(1, 50), min_size=1, max_size=60).map(
    lambda steps: [sum(steps[:i]) - 100 for i in range(len(steps))]
)


@given(increasing)
def test_clean_times_stay_as_they_are(times: list[int]) -> None:
    assert are_clean(times)
    assert repair(times, typical_step(times)) == times


@given(st.lists(st.none() | st.integers(-(10**6), 10**6), min_size=1, max_size=60))
def test_repaired_times_never_decrease(raw: list[int | None]) -> None:
    times = repair(raw, 40)
    assert len(times) == len(raw)
    assert all(a <= b for a, b in pairwise(times))


def test_decoding_order_is_sorted() -> None:
    assert repair([1, 2, 4, 3, 5, 7, 6], 1) == [1, 2, 3, 4, 5, 6, 7]


def test_missing_times_follow_by_one_step() -> None:
    assert repair([None, None, 80, None], 40) == [0, 40, 80, 120]


def test_a_second_timeline_is_appended() -> None:
    first = list(range(0, 4000, 40))
    assert repair([*first, 0, 40, 80], 40) == [*first, 4000, 4040, 4080]


@pytest.mark.parametrize("raw", [[0, 0, 1], [0, 2, 1], [0, None, 1]])
def test_unclean(raw: list[int | None]) -> None:
    assert not are_clean(raw)


def test_typical_step_outvotes_gaps() -> None:
    assert typical_step([0, 3, 4, 5, 6, 100]) == 1
    assert typical_step([5]) == typical_step([5, 5]) == 1


MS = Fraction(1, 1000)


def test_rate_claimed_by_the_container_is_exact_where_plausible() -> None:
    times = [round(Fraction(1001 * i, 30)) for i in range(100)]
    assert frame_rate(times, MS, Fraction(30000, 1001)) == Fraction(30000, 1001)


def test_a_lost_frame_does_not_change_the_rate() -> None:
    assert frame_rate([0, 40, 80, 160, 200, 240], MS, Fraction(25)) == 25


def test_a_wrong_claim_is_measured_instead() -> None:
    assert frame_rate([0, 50, 100, 150], MS, Fraction(600)) == 20
    assert frame_rate([0, 50, 100, 150], MS, None) == 20
    assert frame_rate([7], Fraction(1, 10), None) == 10


@pytest.mark.parametrize(
    ("times", "after"),
    [
        ([0, 40, 80, 1080, 1120, 1160], set()),  # a second is none yet
        ([0, 40, 80, 1081, 1121, 1161], {3}),
        ([0, 500, 1000, 6000, 6500, 7000], set()),  # nor are ten steps of a slow video
        ([0, 500, 1000, 6001, 6501, 7000], {3}),
        ([0, 3_600_000, 7_200_000], set()),  # one frame an hour is its pace
        ([0], set()),
    ],
)
def test_a_gap_is_more_than_a_second_and_than_ten_steps(times: list[int], after: set[int]):
    assert gaps(times, Fraction(1, 1000)) == after


@pytest.mark.parametrize("seconds", [1, 2, 7, 2000, 3600, 86400])
def test_no_rate_is_zero(seconds: int):
    times = [seconds * i for i in range(5)]
    assert frame_rate(times, Fraction(1), None) == Fraction(1, seconds)
    assert frame_rate(times, Fraction(1), Fraction(25)) == Fraction(1, seconds)
