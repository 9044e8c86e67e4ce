from typing import Literal

import pytest
import torch
from diffusers import DDIMScheduler

from trainer.process.ddim import Ddim, ladder
from trainer.process.laws import Timesteps

BETAS: dict[Literal["linear", "scaled_linear"], dict[str, float]] = {
    "linear": {"beta_start": 1e-4, "beta_end": 0.02},
    "scaled_linear": {"beta_start": 0.00085, "beta_end": 0.012},
}


def ddim(predicts: Literal["noise", "velocity"] = "noise") -> Ddim:
    return Ddim(predicts=predicts, law=Timesteps(tuple(ladder("scaled_linear").tolist())))


@pytest.mark.parametrize("betas", BETAS)
def test_the_levels_are_those_of_diffusers(betas: Literal["linear", "scaled_linear"]) -> None:
    kept = DDIMScheduler(beta_schedule=betas, **BETAS[betas]).alphas_cumprod.double()
    torch.testing.assert_close(ladder(betas), ((1 - kept) / kept).sqrt(), rtol=5e-4, atol=0)


def test_the_top_of_stable_diffusion() -> None:
    """ᾱ_999 = 0.00466, γ = 0.0683, ρ = 14.61."""
    at = ddim().coefficients(ladder("scaled_linear")[-1:].view(1, 1))
    assert at.gamma.item() == pytest.approx(0.0683, abs=5e-5)
    assert (at.sigma / at.gamma).item() == pytest.approx(14.61, abs=0.01)
    assert at.conditioning.item() == 999


def test_networks_are_told_the_timestep() -> None:
    rungs = ladder("scaled_linear").float()
    told = ddim().coefficients(rungs[None, [0, 1, 500, 999]]).conditioning
    assert told.tolist() == [[0, 1, 500, 999]]
    between = ddim().coefficients((rungs[500:501] + rungs[501:502])[None] / 2).conditioning
    assert between.item() == pytest.approx(500.5, abs=1e-3)
    assert ddim().coefficients(torch.zeros(1, 1)).conditioning.item() == 0


@pytest.mark.parametrize("level", [0.05, 1.0, 14.0])
def test_noise_and_velocity_both_give_the_clean_clip(level: float) -> None:
    levels = torch.tensor([[level]], dtype=torch.float64)
    clean, noise = 0.3, -1.7
    choices: tuple[Literal["noise", "velocity"], ...] = ("noise", "velocity")
    for predicts in choices:
        at = ddim(predicts).coefficients(levels)
        gamma, sigma = at.gamma.item(), at.sigma.item()
        assert gamma**2 + sigma**2 == pytest.approx(1)
        x = gamma * clean + sigma * noise
        said = noise if predicts == "noise" else gamma * noise - sigma * clean
        assert at.skip.item() * x + at.out.item() * said == pytest.approx(clean)
