import math

import pytest
import torch
from torch import Tensor

from trainer.config import PyramidConfig
from trainer.temporal.stages import Stage, clean_estimate, hold, noisy_mean, stages, target

STAGES = stages(PyramidConfig())
FRAMES = 16


def clip(stage: Stage, seed: int = 0, frames: int = FRAMES) -> Tensor:
    """D of a stage: a float64 [2, t, 1, 2, 3] clip at its stride."""
    full = torch.randn(
        2, frames, 1, 2, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return full[:, :: stage.stride]


def noisy(clean: Tensor, noise: Tensor, sigma: float, stage: Stage) -> Tensor:
    levels = torch.full((len(clean),), sigma, dtype=clean.dtype)
    return noisy_mean(clean, levels, stage) + sigma * noise


def levels(stage: Stage) -> list[float]:
    return [stage.end + share * (stage.start - stage.end) for share in (0.1, 0.5, 1.0)]


def test_the_default_stages() -> None:
    assert [stage.stride for stage in STAGES] == [1, 2, 4]
    assert [stage.end for stage in STAGES] == [0, 0.5, 2]
    assert [stage.start for stage in STAGES] == pytest.approx([0.70711, 2.82843, 80], abs=1e-5)
    assert [stage.overshoot for stage in STAGES] == pytest.approx([0, 0.21474, 0.02564], abs=1e-5)


def test_without_a_pyramid_it_is_plain_edm() -> None:
    (stage,) = stages(PyramidConfig(enabled=False))
    clean, noise = clip(stage), torch.randn(2, FRAMES, 1, 2, 3, dtype=torch.float64)
    assert torch.equal(noisy(clean, noise, 3.0, stage), clean + 3.0 * noise)
    assert torch.equal(target(clean, stage), clean)
    assert torch.equal(clean_estimate(clean, stage), clean)


@pytest.mark.parametrize("frames", [4, 12, 16])
@pytest.mark.parametrize("stage", STAGES)
def test_the_clean_clip_is_recovered_from_the_target(stage: Stage, frames: int) -> None:
    clean = clip(stage, frames=frames)
    torch.testing.assert_close(clean_estimate(target(clean, stage), stage), clean)
    torch.testing.assert_close(hold(target(clean, stage)), hold(clean))


def test_taking_the_target_for_the_clean_clip_exaggerates_motion() -> None:
    stage = STAGES[1]
    clean = torch.arange(8.0).view(1, 8, 1, 1, 1)  # a ramp in time: motion of 1 a slot
    within_a_hold = target(clean, stage)[:, 1] - target(clean, stage)[:, 0]
    assert within_a_hold.item() == pytest.approx(1 + stage.overshoot)


@pytest.mark.parametrize("stage", STAGES)
def test_noisy_clips_are_linear_in_sigma_with_the_papers_noise(stage: Stage) -> None:
    """Equations 10 and 11 with γ = 1: x = x_s + ε_k·(σ − s), ε_k = ε − (D − U)/(s − e)."""
    clean, noise = clip(stage), torch.randn(clip(stage).shape, dtype=torch.float64)
    ended, started = (noisy(clean, noise, level, stage) for level in (stage.end, stage.start))
    from_ends = (ended - started) / (stage.end - stage.start)
    in_closed_form = noise - (clean - hold(clean)) / (stage.start - stage.end)
    torch.testing.assert_close(from_ends, in_closed_form)
    for sigma in levels(stage):
        x = started + in_closed_form * (sigma - stage.start)
        torch.testing.assert_close(noisy(clean, noise, sigma, stage), x)


@pytest.mark.parametrize("stage", STAGES)
def test_one_euler_step_to_the_end_is_exact(stage: Stage) -> None:
    """The sampler's slope (x − q)/σ is constant in a stage, so q is the right thing to predict."""
    clean, noise = clip(stage), torch.randn(clip(stage).shape, dtype=torch.float64)
    for sigma in levels(stage):
        x = noisy(clean, noise, sigma, stage)
        slope = (x - target(clean, stage)) / sigma
        arrived = x + (stage.end - sigma) * slope
        torch.testing.assert_close(arrived, noisy(clean, noise, stage.end, stage))


@pytest.mark.parametrize(("fine", "coarse"), [(0, 1), (1, 2)])
def test_the_end_of_a_stage_renoises_to_the_start_of_the_finer_one(fine: int, coarse: int) -> None:
    """Section 3.5: frames repeated, plus (s/√2)·(z, −z), have the start's mean and covariance."""
    draws, stage, above = 40_000, STAGES[fine], STAGES[coarse]
    assert above.end == pytest.approx(stage.start / math.sqrt(2))
    generator = torch.Generator().manual_seed(fine)
    clean = torch.tensor([1.0, -2.0, 0.5, 3.0]).view(1, 4, 1, 1, 1)
    noise = torch.randn(draws, 2, 1, 1, 1, generator=generator)
    ended = noisy(clean[:, ::2], noise, above.end, above)
    z = torch.randn(draws, 2, 1, 1, 1, generator=generator)
    pairs = torch.stack([z, -z], dim=2).flatten(1, 2)
    x = (ended.repeat_interleave(2, dim=1) + stage.start / math.sqrt(2) * pairs).flatten(1)
    covariance = stage.start**2 * torch.eye(4)
    # Five standard deviations of a mean, and of a (co)variance, of `draws` normal numbers.
    allowed = 5 * stage.start / draws**0.5
    start = noisy_mean(clean, torch.tensor([stage.start]), stage).flatten()
    torch.testing.assert_close(x.mean(0), start, atol=allowed, rtol=0)
    torch.testing.assert_close(
        torch.cov(x.T), covariance, atol=5 * math.sqrt(2) * stage.start**2 / draws**0.5, rtol=0
    )
