"""The temporal pyramid of TPDiff (arXiv 2503.09566) in EDM's terms (γ = 1, σ = the noise level).

Stage k runs at stride 2^(k-1) over the noise levels from its clean end e_k to its noisy start s_k.
With D the clip at the stage's rate and U = hold(D) the same clip at half that rate with every frame
held for two slots, a noisy clip of the stage lies on the line between its ends (equations 7 to 11):

    x = D + τ(U − D) + σ·ε,   τ = (σ − e)/(s − e)

So at σ = s it is what the coarser stage hands over, and at σ = e it is the clip itself. The line
points at one clean clip for all σ, which is what the network learns:

    q = (1 + c)·D − c·U,   c = e/(s − e)

hold(q) = U, because holding is linear and idempotent and hold(D) = hold(U) = U; hence the stage's
clean clip is D = (q + c·hold(q))/(1 + c). Taking q itself for it would exaggerate motion by 1 + c.

Between stages, frames are repeated and correlated noise is added (section 3.5); its covariance
comes out right only where e_{k+1} = s_k/√2, which fixes the starts.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.config import PyramidConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One stage: its number (1 is the full rate), frame stride, and noise interval (end, start]."""

    number: int
    stride: int
    end: float
    start: float

    @property
    def overshoot(self) -> float:
        """c = e/(s − e), how far q lies beyond D."""
        return self.end / (self.start - self.end)


def stages(config: PyramidConfig) -> tuple[Stage, ...]:
    """The stages from full rate down; without a pyramid one stage, plain EDM (c = τ = 0)."""
    if not config.enabled:
        return (Stage(number=1, stride=1, end=0.0, start=math.inf),)
    starts = [math.sqrt(2) * end for end in config.ends[1:]] + [config.sigma_max]
    return tuple(
        Stage(number=k + 1, stride=2**k, end=end, start=start)
        for k, (end, start) in enumerate(zip(config.ends, starts, strict=True))
    )


def hold(clip: Tensor) -> Tensor:
    """Up(Down(clip)): every second frame, shown twice. clip [b, t, ...]."""
    return clip[:, ::2].repeat_interleave(2, dim=1)[:, : clip.shape[1]]


def noisy_mean(clean: Tensor, sigma: Tensor, stage: Stage) -> Tensor:
    """D + τ(U − D), the noisy clip less its noise. clean [b, t, c, h, w], sigma [b]."""
    tau = (sigma - stage.end) / (stage.start - stage.end)
    return torch.lerp(clean, hold(clean), tau.view(-1, 1, 1, 1, 1))


def target(clean: Tensor, stage: Stage) -> Tensor:
    """q = (1 + c)·D − c·U, what the network is to predict from any noise level of the stage."""
    return torch.lerp(clean, hold(clean), -stage.overshoot)


def clean_estimate(prediction: Tensor, stage: Stage) -> Tensor:
    """D from a prediction of q: (q + c·hold(q))/(1 + c), the inverse of `target`."""
    c = stage.overshoot
    return torch.lerp(prediction, hold(prediction), c / (1 + c))
