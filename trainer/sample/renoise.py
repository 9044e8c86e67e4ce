"""From the end of a pyramid stage to the start of the next finer one (TPDiff, section 3.5).

Each slot is shown twice and gets noise that makes up what it lacks:

    x_s = (γ_s/γ_e)·Up(x_e) + γ_s·√(s² − e²)·n'

Up(x_e) has the noise γ_s·e in both slots of a pair, wholly correlated. With n' = (z, −z) and
s = √2·e, where √(s² − e²) = s/√2, the pair's noise is white again and of the start's level. Both
levels are each slot's own: what follows a given slot, of level 0, starts at noise of its own alone.
"""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from trainer.process.process import Coefficients, each

Renoise = Literal["paired", "independent", "none"]
Coarse = Float[Tensor, "b u c h w"]
Fine = Float[Tensor, "b t c h w"]  # t is 2·u, or 2·u − 1


def twice(x: Tensor, slots: int) -> Tensor:
    """Each slot of [b, t, ...] shown for two, of which the first `slots` are there."""
    return x.repeat_interleave(2, dim=1)[:, :slots]


def opposite(z: Coarse, slots: int) -> Fine:
    """n' = (z, −z) in each pair of slots; the last of an odd number has no partner."""
    pairs = twice(z, slots).clone()
    pairs[:, 1::2] *= -1
    return pairs


def refine(x: Coarse, extra: Fine, ended: Coefficients, start: Coefficients) -> Fine:
    """Clips of a stage's end as clips of the finer stage's start.

    Args:
        x: of the coarse stage.
        extra: n', of the fine stage's slots.
        ended, start: the process at the levels of the coarse and of the fine stage's slots.
    """
    slots = extra.shape[1]
    gamma, sigma = (twice(value, slots) for value in (ended.gamma, ended.sigma))
    scale = start.gamma / gamma
    lacking = (start.sigma**2 - (scale * sigma) ** 2).clamp(min=0).sqrt()
    return each(scale) * twice(x, slots) + each(lacking) * extra
