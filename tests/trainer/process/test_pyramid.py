import math

import pytest
import torch
from torch import Tensor

from trainer.process.pyramid import NoiseInterval, clean_estimate, hold, noisy_mean, target

# Of three stages, full rate first; each start is √2 times the next end.
INTERVALS = [
    NoiseInterval(end=0.0, start=math.sqrt(2) * 0.5),
    NoiseInterval(end=0.5, start=math.sqrt(2) * 2),
    NoiseInterval(end=2.0, start=80.0),
]
SLOTS = 8


def normal(slots: int = SLOTS, seed: int = 0) -> Tensor:
    """A float64 clip [2, t, 1, 2, 3] of unit normal noise."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, slots, 1, 2, 3, generator=generator, dtype=torch.float64)


def noisy(clean: Tensor, noise: Tensor, sigma: float, interval: NoiseInterval) -> Tensor:
    levels = torch.full(clean.shape[:2], sigma, dtype=clean.dtype)
    return noisy_mean(clean, levels, interval) + sigma * noise


def within(interval: NoiseInterval) -> list[float]:
    return [interval.end + share * (interval.start - interval.end) for share in (0.1, 0.5, 1.0)]


def test_overshoots_of_the_default_stages() -> None:
    overshoots = [interval.overshoot for interval in INTERVALS]
    assert overshoots == pytest.approx([0, 0.21474, 0.02564], abs=1e-5)


def test_without_bounds_it_is_plain_edm() -> None:
    unbounded = NoiseInterval(end=0.0, start=math.inf)
    clean, noise = normal(), normal(seed=1)
    assert torch.equal(noisy(clean, noise, 3.0, unbounded), clean + 3.0 * noise)
    assert torch.equal(noisy_mean(clean, torch.full((2, SLOTS), math.inf), unbounded), clean)
    assert torch.equal(target(clean, unbounded), clean)
    assert torch.equal(clean_estimate(clean, unbounded), clean)


@pytest.mark.parametrize("interval", INTERVALS)
def test_each_slot_is_noised_to_its_own_level(interval: NoiseInterval) -> None:
    clean, low, high = normal(), *within(interval)[:2]
    levels = torch.full((2, SLOTS), low, dtype=torch.float64)
    levels[1, 3] = high
    mixed, lower, higher = (
        noisy_mean(clean, level, interval)
        for level in (levels, torch.full_like(levels, low), torch.full_like(levels, high))
    )
    assert torch.equal(mixed[1, 3], higher[1, 3])
    mixed[1, 3] = lower[1, 3]
    assert torch.equal(mixed, lower)


@pytest.mark.parametrize("slots", [1, 2, 5, 8])
@pytest.mark.parametrize("interval", INTERVALS)
def test_the_clean_clip_is_recovered_from_the_target(interval: NoiseInterval, slots: int) -> None:
    clean = normal(slots)
    torch.testing.assert_close(clean_estimate(target(clean, interval), interval), clean)
    torch.testing.assert_close(hold(target(clean, interval)), hold(clean))


def test_taking_the_target_for_the_clean_clip_exaggerates_motion() -> None:
    interval = INTERVALS[1]
    clean = torch.arange(8.0).view(1, 8, 1, 1, 1)  # a ramp in time: motion of 1 each slot
    within_a_hold = target(clean, interval)[:, 1] - target(clean, interval)[:, 0]
    assert within_a_hold.item() == pytest.approx(1 + interval.overshoot)


@pytest.mark.parametrize("interval", INTERVALS)
def test_noisy_clips_are_linear_in_sigma_with_the_papers_noise(interval: NoiseInterval) -> None:
    """Equations 10 and 11 with γ = 1: x = x_s + ε_k·(σ − s), ε_k = ε − (D − U)/(s − e)."""
    clean, noise = normal(), normal(seed=1)
    ended, started = (
        noisy(clean, noise, level, interval) for level in (interval.end, interval.start)
    )
    from_ends = (ended - started) / (interval.end - interval.start)
    in_closed_form = noise - (clean - hold(clean)) / (interval.start - interval.end)
    torch.testing.assert_close(from_ends, in_closed_form)
    for sigma in within(interval):
        x = started + in_closed_form * (sigma - interval.start)
        torch.testing.assert_close(noisy(clean, noise, sigma, interval), x)


@pytest.mark.parametrize("interval", INTERVALS)
def test_one_euler_step_to_the_end_is_exact(interval: NoiseInterval) -> None:
    """The sampler's slope (x − q)/σ is constant in a stage, so q is the right thing to predict."""
    clean, noise = normal(), normal(seed=1)
    for sigma in within(interval):
        x = noisy(clean, noise, sigma, interval)
        slope = (x - target(clean, interval)) / sigma
        arrived = x + (interval.end - sigma) * slope
        torch.testing.assert_close(arrived, noisy(clean, noise, interval.end, interval))


@pytest.mark.parametrize(("fine", "coarse"), [(0, 1), (1, 2)])
def test_the_end_of_a_stage_renoises_to_the_start_of_the_finer_one(fine: int, coarse: int) -> None:
    """Section 3.5: frames repeated, plus (s/√2)·(z, −z), have the start's mean and covariance."""
    draws, interval, above = 40_000, INTERVALS[fine], INTERVALS[coarse]
    assert above.end == pytest.approx(interval.start / math.sqrt(2))
    generator = torch.Generator().manual_seed(fine)
    clean = torch.tensor([1.0, -2.0, 0.5, 3.0]).view(1, 4, 1, 1, 1)
    noise = torch.randn(draws, 2, 1, 1, 1, generator=generator)
    ended = noisy(clean[:, ::2], noise, above.end, above)
    z = torch.randn(draws, 2, 1, 1, 1, generator=generator)
    pairs = torch.stack([z, -z], dim=2).flatten(1, 2)
    x = (ended.repeat_interleave(2, dim=1) + interval.start / math.sqrt(2) * pairs).flatten(1)
    covariance = interval.start**2 * torch.eye(4)
    # Five standard deviations of a mean, and of a (co)variance, of `draws` normal numbers.
    allowed = 5 * interval.start / draws**0.5
    start = noisy_mean(clean, torch.full((1, 4), interval.start), interval).flatten()
    torch.testing.assert_close(x.mean(0), start, atol=allowed, rtol=0)
    torch.testing.assert_close(
        torch.cov(x.T), covariance, atol=5 * math.sqrt(2) * interval.start**2 / draws**0.5, rtol=0
    )
