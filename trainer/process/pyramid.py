"""The pyramid path of TPDiff (arXiv 2503.09566), for any process with x = γ·m + σ·ε.

A stage of the temporal pyramid runs over the noise levels ρ = σ/γ from its clean end e to its noisy
start s. With D the clip at the stage's rate and U = hold(D) the same clip at half that rate with
every frame held for two slots, a noisy clip of the stage lies on the line between its ends
(equations 7 to 11, divided by γ), each slot at its own level:

    x/γ = m + ρ·ε,   m = D + τ(U − D),   τ = (ρ − e)/(s − e)

So at ρ = s it is what the coarser stage hands over, and at ρ = e it is the clip itself. The line
points at one clean clip for all ρ, which is what the network learns:

    q = (1 + c)·D − c·U,   c = e/(s − e)

hold(q) = U, because holding is linear and idempotent and hold(D) = hold(U) = U; hence the stage's
clean clip is D = (q + c·hold(q))/(1 + c). Taking q itself for it would exaggerate motion by 1 + c.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Clips = Float[Tensor, "b t c h w"]  # in slot order
Levels = Float[Tensor, "b t"]  # the noise level of each slot
Times = Float[Tensor, " t"]  # when each slot is shown, in frames of the full rate


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseInterval:
    """The noise levels (end, start] of a stage; up to infinity it is the plain process (c = τ = 0).

    Attributes:
        end: e, the clean end.
        start: s, the noisy start.
    """

    end: float
    start: float

    @property
    def overshoot(self) -> float:
        """c = e/(s − e), how far q lies beyond D."""
        return self.end / (self.start - self.end)


def hold(clip: Clips) -> Clips:
    """Up(Down(clip)): every second frame, shown twice."""
    return clip[:, ::2].repeat_interleave(2, dim=1)[:, : clip.shape[1]]


def noisy_mean(clean: Clips, levels: Levels, interval: NoiseInterval) -> Clips:
    """m = D + τ(U − D), the signal in a noisy clip; D in slots that are given, at level 0."""
    if math.isinf(interval.start):
        return clean  # τ = 0, and levels may be infinite as well
    tau = ((levels - interval.end) / (interval.start - interval.end)).clamp(min=0)
    return torch.lerp(clean, hold(clean), tau[:, :, None, None, None])


def target(clean: Clips, interval: NoiseInterval) -> Clips:
    """q = (1 + c)·D − c·U, what the network is to predict from any noise level of the stage."""
    return torch.lerp(clean, hold(clean), -interval.overshoot)


def clean_estimate(prediction: Clips, interval: NoiseInterval) -> Clips:
    """D from a prediction of q: (q + c·hold(q))/(1 + c), the inverse of `target`."""
    c = interval.overshoot
    return torch.lerp(prediction, hold(prediction), c / (1 + c))
