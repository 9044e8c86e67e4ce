from dataclasses import replace
from fractions import Fraction
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config import FluxFlowConfig
from trainer.temporal.fluxflow import draw_count, draw_shuffle, shuffle_blocks, shuffle_frames


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(st.integers(0, 2**32), st.integers(2, 49), st.data(), st.booleans())
def test_frame_mode_moves_at_most_the_chosen_frames(
    seed: int, slots: int, data: st.DataObject, derangement: bool
) -> None:
    count = data.draw(st.integers(0, slots))
    order = shuffle_frames(rng(seed), slots, count, derangement=derangement)
    assert sorted(order) == list(range(slots))
    moved = int((order != np.arange(slots)).sum())
    assert moved == count if derangement and count > 1 else moved <= count


@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(1, 49), st.data())
def test_block_mode_keeps_blocks_whole_and_the_tail_in_place(
    seed: int, block: int, slots: int, data: st.DataObject
) -> None:
    blocks = slots // block
    count = data.draw(st.integers(0, blocks))
    order = shuffle_blocks(rng(seed), slots, block, count)
    assert sorted(order) == list(range(slots))
    tail = blocks * block
    assert order[tail:].tolist() == list(range(tail, slots))
    rows = order[:tail].reshape(blocks, block)
    assert (rows == rows[:, :1] + np.arange(block)).all()
    assert (rows[:, 0] % block == 0).all()


def test_the_papers_4x8_plus_1_keeps_the_last_frame() -> None:
    for seed in range(50):
        order = shuffle_blocks(rng(seed), 33, 8, 4, derangement=True)
        assert order[32] == 32
        assert (order[:32].reshape(4, 8)[:, 0] // 8 != np.arange(4)).all()


@pytest.mark.parametrize(("derangement", "rate"), [(False, 0.5), (True, 0.0)])
def test_a_uniform_shuffle_of_two_frames_does_nothing_half_of_the_time(
    derangement: bool, rate: float
) -> None:
    draws, generator = 10_000, rng()
    unchanged = sum(
        (shuffle_frames(generator, 16, 2, derangement=derangement) == np.arange(16)).all()
        for _ in range(draws)
    )
    # Five standard deviations of a share of 10,000 coin tosses.
    assert abs(unchanged / draws - rate) <= 5 * 0.5 / draws**0.5
    assert derangement is False or unchanged == 0


def test_every_slot_and_every_order_is_equally_likely() -> None:
    generator, draws = rng(1), 6000
    first = sum(shuffle_frames(generator, 3, 3).tolist() == [2, 0, 1] for _ in range(draws))
    assert abs(first / draws - 1 / 6) < 5 * (1 / 6 * 5 / 6 / draws) ** 0.5


@given(
    st.fractions(0, 12, max_denominator=64), st.booleans(), st.integers(0, 2**32), st.integers(2, 9)
)
def test_a_count_is_none_or_two_and_more_and_next_to_the_dose(
    dose: Fraction, derangement: bool, seed: int, draws: int
) -> None:
    generator, still = rng(seed), 0 if derangement else 1
    for _ in range(draws):
        count = draw_count(generator, dose, derangement)
        assert count == 0 or count >= 2
        assert abs(max(0, count - still) - dose) < (2 if derangement and dose < 2 else 1)
        if dose.denominator == 1 and dose >= 2:
            assert count == dose + still


@pytest.mark.parametrize("derangement", [False, True])
@pytest.mark.parametrize("dose", [Fraction(1, 4), Fraction(3, 2), Fraction(7, 3)])
def test_counts_move_the_dose_on_average(dose: Fraction, derangement: bool) -> None:
    generator, moved = rng(2), []
    for _ in range(4000):
        order = shuffle_frames(
            generator, 6, draw_count(generator, dose, derangement), derangement=derangement
        )
        moved.append(int((order != np.arange(6)).sum()))
    assert abs(np.mean(moved) - float(dose)) < 5 * np.std(moved) / len(moved) ** 0.5


@pytest.mark.parametrize(
    ("config", "frames", "chosen"),
    [
        (FluxFlowConfig(), 16, 2),  # VideoCrafter2, 2x1
        (FluxFlowConfig(), 33, 4),  # NOVA, 4x1
        (FluxFlowConfig(ratio=8 / 49), 49, 8),  # CogVideoX, 8x1
        (FluxFlowConfig(ratio=2 / 49), 49, 2),
        (FluxFlowConfig(mode="block"), 16, 2),  # VideoCrafter2, 2x2
        (FluxFlowConfig(mode="block", block=4, ratio=1 / 2), 33, 4),  # NOVA, 4x4
        (FluxFlowConfig(mode="block", block=8, ratio=2 / 3), 49, 4),  # CogVideoX, 4x8
    ],
)
def test_at_the_full_rate_every_clip_has_the_papers_count(
    config: FluxFlowConfig, frames: int, chosen: int
) -> None:
    assert config.chosen(frames) == chosen
    for seed in range(50):
        assert draw_count(rng(seed), config.dose(frames), derangement=False) == chosen
        order = draw_shuffle(rng(seed), config, frames)
        assert (order != np.arange(frames)).sum() <= chosen * config.units(frames)[1]


def test_every_ratio_of_whole_frames_gives_that_many() -> None:
    for units in range(2, 200):
        for count in range(2, units + 1):
            assert FluxFlowConfig(ratio=count / units).chosen(units) == count


def test_one_that_could_not_trade_places_becomes_two() -> None:
    assert FluxFlowConfig(ratio=1 / 16).chosen(16) == 2
    assert FluxFlowConfig(ratio=1 / 17).chosen(16) == 0


def test_a_given_count_wins_over_the_ratio() -> None:
    assert FluxFlowConfig(count=5, ratio=0.5).chosen(16) == 5


def test_a_block_spans_the_same_time_at_every_stride() -> None:
    config = FluxFlowConfig(mode="block", block=4)
    assert [config.units(16, stride) for stride in (1, 2, 4)] == [(4, 4), (4, 2), (4, 1)]
    config = FluxFlowConfig(mode="block", block=2)
    assert [config.units(16, stride) for stride in (1, 2, 4)] == [(8, 2), (8, 1), (4, 1)]


@pytest.mark.parametrize("mode", ["off", "frame", "block"])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_a_window_of_one_frame_more_loses_none(
    mode: Literal["off", "frame", "block"], stride: int
) -> None:
    config = FluxFlowConfig(mode=mode, block=4, derangement=True)
    moved = []
    for seed in range(200):
        order = draw_shuffle(rng(seed), config, 17, stride)
        assert sorted(order) == list(range((17 - 1) // stride + 1))
        moved.append((order != np.arange(len(order))).mean())
    assert np.mean(moved) == pytest.approx(0 if mode == "off" else moved_share(config), abs=0.05)


def moved_share(config: FluxFlowConfig) -> float:
    return config.chosen(17) * config.units(17)[1] / 17


def test_blocks_after_the_first_frame_move_whole_latents() -> None:
    """Frames 4k-3 to 4k share a latent: as blocks with the remainder at the head do."""
    config = FluxFlowConfig(mode="block", block=4, count=4, remainder="head")
    shown = draw_shuffle(rng(3), config, 17)
    assert shown[0] == 0
    assert (shown[1:].reshape(4, 4) % 4 == [1, 2, 3, 0]).all()
    assert (shown != np.arange(17)).any()
    tail = draw_shuffle(rng(3), replace(config, remainder="tail"), 17)
    assert (tail[:16] == shown[1:] - 1).all()
    assert tail[16] == 16


def test_modes() -> None:
    assert draw_shuffle(rng(), FluxFlowConfig(mode="off"), 16, 2).tolist() == list(range(8))
    blocks = draw_shuffle(rng(3), FluxFlowConfig(mode="block", block=4, count=4), 16)
    assert (np.diff(blocks.reshape(4, 4), axis=1) == 1).all()
