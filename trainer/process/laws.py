"""Laws of noise levels, and the parts of them that the stages of a pyramid train on.

The levels of all stages together follow the law itself: where two stages overlap, each has half.
So a run with a pyramid learns the same levels as often as one without.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import NormalDist
from typing import Protocol

import numpy as np


class Law(Protocol):
    """A distribution of levels."""

    @property
    def lowest(self) -> float:
        """The least level that a network need tell from 0."""

    @property
    def highest(self) -> float:
        """Where sampling begins; infinity: pure noise."""

    def below(self, level: float) -> float:
        """The share of the levels below one, in [0, 1]; it may be 0 or infinite."""

    def level(self, share: float) -> float:
        """The level that a share in (0, 1) of all lies below, the inverse of `below`."""


@dataclass(frozen=True, slots=True)
class LogNormal:
    """ln ρ is normal: EDM's law, and the logit-normal law of flow matching's t = ρ/(1 + ρ)."""

    mean: float
    std: float
    lowest: float = 0.002
    highest: float = math.inf

    def below(self, level: float) -> float:
        """Φ((ln ρ − mean)/std)."""
        return NormalDist(self.mean, self.std).cdf(math.log(level)) if level > 0 else 0.0

    def level(self, share: float) -> float:
        """exp(mean + std·Φ⁻¹(share))."""
        return math.exp(NormalDist(self.mean, self.std).inv_cdf(share))


@dataclass(frozen=True, slots=True)
class Uniform:
    """t = ρ/(1 + ρ) is uniform in (0, 1), before a shift multiplies ρ."""

    shift: float = 1.0
    lowest: float = 0.001
    highest: float = math.inf

    def below(self, level: float) -> float:
        """t before the shift."""
        return 1.0 if math.isinf(level) else level / (self.shift + level)

    def level(self, share: float) -> float:
        """shift·t/(1 − t)."""
        return self.shift * share / (1 - share)


@dataclass(frozen=True, slots=True)
class Timesteps:
    """One of some levels, each equally likely.

    Attributes:
        rungs: the levels, rising.
    """

    rungs: tuple[float, ...]

    @property
    def lowest(self) -> float:
        """The first rung."""
        return self.rungs[0]

    @property
    def highest(self) -> float:
        """The last rung."""
        return self.rungs[-1]

    def below(self, level: float) -> float:
        """The share of the rungs below a level."""
        return bisect_left(self.rungs, level) / len(self.rungs)

    def level(self, share: float) -> float:
        """The rung that a share falls on."""
        return self.rungs[min(int(share * len(self.rungs)), len(self.rungs) - 1)]


@dataclass(frozen=True, slots=True)
class Part:
    """What one stage trains on: a piece of a law, half of it where a neighbour has the other half.

    Attributes:
        law: that is cut.
        shares: of the law, where pieces begin and the last ends.
        masses: how much of the law the stage has below each of them; the last is its odds.
    """

    law: Law
    shares: tuple[float, ...]
    masses: tuple[float, ...]

    @property
    def odds(self) -> float:
        """How often a level of the law is one of this part's."""
        return self.masses[-1]

    def below(self, level: float) -> float:
        """The share of the part below a level."""
        return float(np.interp(self.law.below(level), self.shares, self.masses)) / self.odds

    def level(self, share: float) -> float:
        """The level that `share` in [0, 1) of the part lies above."""
        at = float(np.interp((1 - share) * self.odds, self.masses, self.shares))
        low, high = self.shares[0], self.shares[-1]
        return self.law.level(min(max(at, low + 1e-12), high - 1e-12))  # laws want it inside (0, 1)


def parts(
    law: Law, intervals: Sequence[tuple[float, float]], *, shared: bool = True
) -> tuple[Part, ...]:
    """The parts of stages with these (end, start) levels, from the clean end of the law up.

    Neighbours may overlap, others not.

    Args:
        shared: what two have in common is divided between them; else each has all of its own.
    """
    bounds = [(law.below(end), law.below(start)) for end, start in intervals]
    cuts = []
    for number, (low, high) in enumerate(bounds):
        half_to = max(low, bounds[number - 1][1]) if shared and number else low
        half_from = min(high, bounds[number + 1][0]) if shared and bounds[number + 1 :] else high
        widths = ((half_to - low) / 2, half_from - half_to, (high - half_from) / 2)
        masses = tuple(accumulate(widths, initial=0.0))
        cuts.append(Part(law=law, shares=(low, half_to, half_from, high), masses=masses))
    return tuple(cuts)
