import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config import FluxFlowConfig
from trainer.temporal.fluxflow import (
    block_permutation,
    frame_permutation,
    permutation,
    shuffled_count,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(st.integers(0, 2**32), st.integers(2, 49), st.data(), st.booleans())
def test_frame_mode_moves_at_most_the_chosen_frames(
    seed: int, slots: int, data: st.DataObject, derangement: bool
) -> None:
    count = data.draw(st.integers(0, slots))
    order = frame_permutation(rng(seed), slots, count, derangement=derangement)
    assert sorted(order) == list(range(slots))
    moved = int((order != np.arange(slots)).sum())
    assert moved == count if derangement and count > 1 else moved <= count


@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 49), st.data())
def test_block_mode_keeps_blocks_whole_and_the_tail_in_place(
    seed: int, block: int, slots: int, data: st.DataObject
) -> None:
    blocks = slots // block
    count = data.draw(st.integers(0, blocks))
    order = block_permutation(rng(seed), slots, block, count)
    assert sorted(order) == list(range(slots))
    tail = blocks * block
    assert order[tail:].tolist() == list(range(tail, slots))
    rows = order[:tail].reshape(blocks, block)
    assert (rows == rows[:, :1] + np.arange(block)).all()
    assert (rows[:, 0] % block == 0).all()


def test_the_papers_4x8_plus_1_keeps_the_last_frame() -> None:
    for seed in range(50):
        order = block_permutation(rng(seed), 33, 8, 4, derangement=True)
        assert order[32] == 32
        assert (order[:32].reshape(4, 8)[:, 0] // 8 != np.arange(4)).all()


@pytest.mark.parametrize(("derangement", "rate"), [(False, 0.5), (True, 0.0)])
def test_a_uniform_shuffle_of_two_frames_does_nothing_half_of_the_time(
    derangement: bool, rate: float
) -> None:
    draws, generator = 10_000, rng()
    unchanged = sum(
        (frame_permutation(generator, 16, 2, derangement=derangement) == np.arange(16)).all()
        for _ in range(draws)
    )
    # Five standard deviations of a share of 10,000 coin tosses.
    assert abs(unchanged / draws - rate) <= 5 * 0.5 / draws**0.5
    assert derangement is False or unchanged == 0


def test_every_slot_and_every_order_is_equally_likely() -> None:
    generator, draws = rng(1), 6000
    first = sum(frame_permutation(generator, 3, 3).tolist() == [2, 0, 1] for _ in range(draws))
    assert abs(first / draws - 1 / 6) < 5 * (1 / 6 * 5 / 6 / draws) ** 0.5


@pytest.mark.parametrize(
    ("units", "ratio", "count"),
    [
        (16, 1 / 8, 2),  # VideoCrafter2, 2x1
        (33, 4 / 33, 4),  # NOVA, 4x1
        (49, 8 / 49, 8),  # CogVideoX, 8x1
        (49, 2 / 49, 2),
        (8, 1 / 8, 2),  # one frame alone cannot be shuffled
        (4, 1 / 8, 0),
        (1, 1.0, 1),
        (0, 1.0, 0),
    ],
)
def test_the_ratio_gives_the_papers_counts(units: int, ratio: float, count: int) -> None:
    assert shuffled_count(units, FluxFlowConfig(ratio=ratio)) == count


def test_every_ratio_of_whole_frames_gives_that_many() -> None:
    for units in range(2, 200):
        for count in range(2, units + 1):
            assert shuffled_count(units, FluxFlowConfig(ratio=count / units)) == count


def test_a_given_count_wins_over_the_ratio() -> None:
    assert shuffled_count(16, FluxFlowConfig(count=5)) == 5
    assert shuffled_count(4, FluxFlowConfig(count=5)) == 4


def test_modes() -> None:
    assert permutation(rng(), 8, FluxFlowConfig(mode="off")).tolist() == list(range(8))
    blocks = permutation(rng(3), 16, FluxFlowConfig(mode="block", block=4, ratio=1.0))
    assert (np.diff(blocks.reshape(4, 4), axis=1) == 1).all()
