"""EDM: noise is added to the clip, the network is preconditioned (Karras et al. 2022, arXiv
2206.00364, table 1)."""

from dataclasses import dataclass

import torch

from trainer.process.laws import Law
from trainer.process.process import Coefficients, Levels


@dataclass(frozen=True, slots=True)
class Edm:
    """γ = 1, σ = ρ. The loss that follows, 1/out², is λ(σ) = (σ² + σ_d²)/(σ·σ_d)².

    Attributes:
        sigma_data: σ_d, standard deviation of clean clips.
        law: of σ.
    """

    sigma_data: float
    law: Law

    def coefficients(self, levels: Levels) -> Coefficients:
        """c_skip, c_out, c_in; c_noise = ln(σ)/4, in hundredths."""
        data = self.sigma_data
        total = (levels**2 + data**2).sqrt()
        return Coefficients(
            gamma=torch.ones_like(levels),
            sigma=levels,
            skip=data**2 / total**2,
            out=levels * data / total,
            into=1 / total,
            conditioning=levels.clamp(min=self.law.lowest).log() / 4 * 100,
        )
