"""What is counted is what tensors take: known for weights, less with checkpointing, straight."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from benchmarks.model_memory import GIB, Case, Training, counted, most_clips
from trainer.config import ModelConfig

MODEL = ModelConfig(dim=32, depth=2, heads=2, patch=4)
CASE = Case(model=MODEL, batch=1, frames=2, size=(8, 8), bf16=False)
pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's tracker


@pytest.fixture(scope="module")
def peaks() -> dict[int, dict[str, float]]:
    """By batch, with all kept."""
    return {n: counted(replace(CASE, batch=n)) for n in (8, 16, 24)}


def test_weights_and_optimizer_are_counted_to_the_byte(peaks: dict[int, dict[str, float]]) -> None:
    weights = sum(p.nbytes for p in Training(CASE, "cpu").model.parameters()) / GIB
    assert peaks[8]["PARAM"] == pytest.approx(2 * weights)  # and their average
    assert peaks[8]["OPT"] == pytest.approx(2 * weights, rel=0.01)  # two moments, step counts
    assert peaks[8]["Total"] > 4 * weights


def test_memory_is_a_straight_line_over_the_batch(peaks: dict[int, dict[str, float]]) -> None:
    one, other = (high["Total"] - low["Total"] for low, high in pairwise(peaks.values()))
    assert one > 0
    assert one == pytest.approx(other, rel=0.02)


def test_checkpointing_keeps_less(peaks: dict[int, dict[str, float]]) -> None:
    less = counted(replace(CASE, batch=24, model=replace(MODEL, checkpointing=True)))
    assert less["ACT"] < 0.8 * peaks[24]["ACT"]


def test_a_card_holds_what_fits_beside_a_tenth_left_free() -> None:
    peaks = {1: 2.0, 4: 5.0}  # one more each
    assert most_clips(peaks, 10) == 8
    assert most_clips(peaks, 10, beside=0.5) == 5
    assert most_clips(peaks, 1) == 0


def test_a_step_really_trains() -> None:
    training = Training(CASE, "cpu")
    before = [p.clone() for p in training.model.parameters()]
    training.step()
    assert any(
        not torch.equal(a, b) for a, b in zip(before, training.model.parameters(), strict=True)
    )
