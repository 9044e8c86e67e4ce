"""Flow matching: a straight line from the clip to noise (Lipman et al., arXiv 2210.02747)."""

from dataclasses import dataclass

import torch

from trainer.process.laws import Law
from trainer.process.process import Coefficients, Levels


@dataclass(frozen=True, slots=True)
class FlowMatching:
    """γ = 1 − t, σ = t with t = ρ/(1 + ρ); the network says the velocity dx/dt = ε_k − q.

    Attributes:
        law: of ρ = t/(1 − t).
    """

    law: Law

    def coefficients(self, levels: Levels) -> Coefficients:
        """q = x − t·v; networks are told 1000·t."""
        t = torch.where(levels.isinf(), 1.0, levels / (1 + levels))
        one = torch.ones_like(t)
        return Coefficients(
            gamma=1 / (1 + levels), sigma=t, skip=one, out=-t, into=one, conditioning=1000 * t
        )
