"""What a diffusion process is: how much signal and noise a slot has, and what a network says of it.

A **level** is noise over signal, ρ = σ/γ: EDM's σ, for every process; 0 is clean, infinity pure
noise. Levels are [b, t], one for each slot; a level of a whole clip is a row of equal values. A
noisy slot is x = γ·m + σ·ε, with m the clean slot, or the point of a pyramid stage's path. Divided
by γ, every process on every stage is one straight line in ρ (`pyramid`):

    x/γ = q + ρ·ε_k

so a network that gives q gives all: q = skip·x + out·F(into·x). What F itself stands for (a clean
clip, ε, a velocity) is in these three factors, and the error of F is that of q divided by `out`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from trainer.process.laws import Law
from trainer.process.pyramid import Clips, Levels, Times

Network = Callable[[Tensor, Tensor, Tensor, Any], Tensor]
"""F(x [b, t, c, h, w], conditioning [b, t], time [t], context) of the shape of x."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Coefficients:
    """A process at the levels of some slots.

    Attributes:
        gamma, sigma: of the signal and of the noise in x; sigma/gamma is the level.
        skip, out, into: q = skip·x + out·F(into·x).
        conditioning: the level as networks are told it, in units of about a thousand.
    """

    gamma: Levels
    sigma: Levels
    skip: Levels
    out: Levels
    into: Levels
    conditioning: Levels


class Process(Protocol):
    """A diffusion process."""

    @property
    def law(self) -> Law:
        """Of the levels that it trains on."""

    def coefficients(self, levels: Levels) -> Coefficients:
        """The process at levels from 0 up."""


def denoise(
    network: Network, noisy: Clips, at: Coefficients, time: Times, context: Any = None
) -> Clips:
    """q as the network sees it, in float32 whatever it computes in.

    Args:
        context: what the network is told beside the levels, as it wants it.
    """
    raw = network(each(at.into) * noisy, at.conditioning, time, context).float()
    return each(at.skip) * noisy + each(at.out) * raw


def each(value: Tensor) -> Tensor:
    """[b, t] shaped to multiply [b, t, c, h, w]."""
    return value[:, :, None, None, None]
