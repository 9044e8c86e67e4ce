"""Windows at the model's frame rate: nearest by time stamps, no picture twice, or refused."""

from fractions import Fraction
from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.temporal.rate import FrameTimes, as_rate, frame_times, in_turn, windows

NTSC = Fraction(24000, 1001)


def test_a_frame_rate_is_a_fraction_of_small_numbers() -> None:
    rates = [as_rate(fps) for fps in (24.0, 29.97, 30000 / 1001, 0.01)]
    assert rates == [24, Fraction(2997, 100), Fraction(30000, 1001), Fraction(1, 100)]


def even(frames: int, own: Fraction, fps: float) -> FrameTimes:
    """Of a clip whose ticks are its frames."""
    return frame_times(range(frames), 1 / own, own, as_rate(fps))


def by_hand(stamps: list[Fraction], own: Fraction, fps: Fraction, first: int, slots: int):
    """The frames from `first` on, one slot after the other; None if there are none."""
    shown = [first]
    for slot in range(1, slots):
        time = stamps[first] + slot / fps
        later = [n for n, stamp in enumerate(stamps) if stamp > stamps[shown[-1]]]
        nearest = min(later, key=lambda n: (abs(stamps[n] - time), stamps[n], n), default=None)
        if nearest is None or abs(stamps[nearest] - time) > 1 / fps / 2:
            return None
        shown.append(nearest)
    return shown if stamps[first] + (slots - 1) / fps < stamps[-1] + 1 / own else None


@settings(max_examples=60, deadline=None)
@given(
    gaps=st.lists(st.integers(0, 60), min_size=1, max_size=20),
    per_second=st.sampled_from([90, 600, 1000]),
    fps=st.sampled_from([Fraction(12), Fraction(24), Fraction(30), NTSC, Fraction(2997, 100)]),
    own=st.sampled_from([Fraction(7, 10), Fraction(31)]),  # none that is asked for
    slots=st.integers(1, 7),
    aligned=st.sampled_from([1, 2, 4]),
)
def test_each_slot_shows_the_frame_that_is_nearest(
    gaps: list[int], per_second: int, fps: Fraction, own: Fraction, slots: int, aligned: int
) -> None:
    pts, base = [*accumulate(gaps, initial=7)], Fraction(1, per_second)
    times = frame_times(pts, base, own, fps)
    stamps = [time * base for time in pts]
    firsts = [n for n in range(0, len(pts), aligned) if n == 0 or pts[n] > pts[n - 1]]
    found = [by_hand(stamps, own, fps, first, slots) for first in firsts]
    assert windows(times, slots, aligned).tolist() == [one for one in found if one]
    for one in windows(times, slots, aligned).tolist():
        assert all(pts[a] < pts[b] for a, b in pairwise(one)), "no picture twice"
    longer = windows(times, slots + 1, aligned)[:, 0].tolist()
    assert {*longer} <= {*windows(times, slots, aligned)[:, 0].tolist()}


@pytest.mark.parametrize(
    ("own", "fps", "shown"),
    [
        (30, 12, [0, 2, 5, 7, 10]),  # of 2 and 3, as near to slot 1, the earlier
        (60, 12, [0, 5, 10, 15, 20]),
        (25, 12, [0, 2, 4, 6, 8]),
        (25, 24, [0, 1, 2, 3, 4]),
        (12, 12, [0, 1, 2, 3, 4]),
        (59.94, 29.97, [0, 2, 4, 6, 8]),
    ],
)
def test_known_rates(own: float, fps: float, shown: list[int]) -> None:
    times = even(24, as_rate(float(own)), fps)
    assert windows(times, 5, 4)[0].tolist() == shown


@pytest.mark.parametrize(("frames", "fits"), [(20, False), (21, True)])
def test_the_last_slot_begins_before_the_clip_ends(frames: int, fits: bool) -> None:
    times = even(frames, Fraction(60), 12)
    assert bool(len(windows(times, 5, 1))) == fits
    assert times.slots == (5 if fits else 4)


@pytest.mark.parametrize(
    ("own", "fps"),
    [(NTSC, 24), (NTSC, 23.976), (NTSC, 23.98), (Fraction(24), 23.976), (Fraction(30), 29.97)],
)
@pytest.mark.parametrize("ticks_a_second", [None, 1000])
def test_the_rate_that_a_clip_has_takes_every_frame(own, fps, ticks_a_second) -> None:
    base = Fraction(1, ticks_a_second) if ticks_a_second else 1 / own
    pts = [round(n / own / base) for n in range(1203)]  # half a slot late at 24 from 500 on
    times = frame_times(pts, base, own, as_rate(fps))
    expected = np.arange(1200) + np.array([[0], [1], [2], [3]])
    assert (windows(times, 1200, 1) == expected).all()


@pytest.mark.parametrize("source", [24, 25, 30, 50, 60, Fraction(30000, 1001), NTSC])
def test_what_a_build_laid_out_at_a_rate_is_taken_as_it_is(source) -> None:
    """It put the latest frame of the source into each slot, up to a frame of it late."""
    pts = [int(Fraction(slot, 24) * source) for slot in range(7, 56)]
    times = frame_times(pts, Fraction(1) / source, Fraction(24), Fraction(24))
    assert windows(times, 49, 4).tolist() == [[*range(49)]]


def test_a_clip_that_is_too_slow_has_no_window() -> None:
    assert windows(even(40, Fraction(20), 24), 3, 1).shape == (38, 3)
    assert windows(even(40, Fraction(20), 24), 8, 1).shape == (0, 8)
    assert even(40, Fraction(20), 24).slots == 48


def test_windows_go_round_a_hole() -> None:
    pts = [*range(0, 200, 10), *range(400, 600, 10)]  # ten a second, but for two seconds
    times = frame_times(pts, Fraction(1, 100), Fraction(7), Fraction(10))
    assert windows(times, 5, 4)[:, 0].tolist() == [0, 4, 8, 12, 20, 24, 28, 32]


def test_repeated_pictures_are_passed_over() -> None:
    times = frame_times([0, 0, 1, 2, 2, 3, 4, 4], Fraction(1, 12), Fraction(24), Fraction(12))
    assert windows(times, 3, 2).tolist() == [[0, 2, 3], [2, 3, 5]]


def test_times_that_lead_nowhere_are_at_no_slot() -> None:
    times = frame_times([0, 1, 2, 2**62], Fraction(2**30), Fraction(5), Fraction(7))
    assert windows(times, 2, 1).shape == (0, 2)


@pytest.mark.parametrize(
    ("own", "frames", "firsts"),
    [(12, 17, [0, 4, 8, 12]), (24, 33, [0, 8, 16, 24]), (60, 60, [0, 20])],
)
def test_windows_follow_each_other(own: int, frames: int, firsts: list[int]) -> None:
    found = windows(even(frames, Fraction(own), 12), 5, 4)
    assert in_turn(found, 4).tolist() == firsts
