"""DDIM: the variance is kept, γ² + σ² = 1, in a thousand steps (Song et al., arXiv 2010.02502)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from trainer.process.laws import Timesteps
from trainer.process.process import Coefficients, Levels

Betas = Literal["linear", "scaled_linear"]
STEPS = 1000


def ladder(betas: Betas) -> Tensor:
    """The level of each timestep, √((1 − ᾱ)/ᾱ); float64 [1000], rising.

    linear: DDPM's β from 1e-4 to 0.02. scaled_linear: Stable Diffusion's, whose √β is linear.
    """
    power = 1 if betas == "linear" else 2
    low, high = (1e-4, 0.02) if betas == "linear" else (0.00085, 0.012)
    root = torch.linspace(low ** (1 / power), high ** (1 / power), STEPS, dtype=torch.float64)
    kept = (1 - root**power).cumprod(0)
    return ((1 - kept) / kept).sqrt()


@dataclass(frozen=True, slots=True)
class Ddim:
    """γ = 1/√(1 + ρ²), σ = ρ·γ; the network says ε_k, or v = γ·ε_k − σ·q (arXiv 2202.00512).

    Attributes:
        predicts: which of them.
        law: uniform over the timesteps.
    """

    predicts: Literal["noise", "velocity"]
    law: Timesteps

    def coefficients(self, levels: Levels) -> Coefficients:
        """q = x/γ − ρ·ε_k, or γ·x − σ·v; networks are told the timestep, between two a fraction."""
        gamma = 1 / (1 + levels**2).sqrt()
        sigma, one = levels * gamma, torch.ones_like(levels)
        noise = self.predicts == "noise"
        return Coefficients(
            gamma=gamma,
            sigma=sigma,
            skip=1 / gamma if noise else gamma,
            out=-levels if noise else -sigma,
            into=one,
            conditioning=self._timestep(levels),
        )

    def _timestep(self, levels: Levels) -> Levels:
        rungs = torch.tensor(self.law.rungs, dtype=levels.dtype, device=levels.device)
        above = torch.searchsorted(rungs, levels.contiguous()).clamp(1, len(rungs) - 1)
        low, high = rungs[above - 1], rungs[above]
        share = ((levels - low) / (high - low)).clamp(0, 1)
        return above - 1 + share
