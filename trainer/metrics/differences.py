"""Changes from frame to frame. A clip that stands still is best in all but the amount of change:
none of the others is a judgement without `frame_difference` beside it.

Means over pixels and channels, of intensities in [0, 1]; NaN where a clip has too few frames.
"""

from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor

Clips: TypeAlias = Float[Tensor, "b t 3 h w"]
"""Frames in [0, 1], RGB."""

Figure: TypeAlias = Float[Tensor, " b"]
"""One value a clip."""


def temporal_variance(frames: Clips) -> Figure:
    """(1/T)·Σ_t (I_t − μ)² of each pixel: flicker, where nothing should change.

    The variance of these T frames themselves (the article divides by T), and so of motion too.
    """
    return frames.var(dim=1, correction=0).flatten(1).mean(1)


def frame_difference(frames: Clips) -> Figure:
    """|I_{t+1} − I_t|: how much changes."""
    return _mean(frames.diff(dim=1))


def second_difference(frames: Clips) -> Figure:
    """|I_{t+1} − 2·I_t + I_{t−1}|: change that is not steady."""
    return _mean(frames.diff(n=2, dim=1))


def _mean(values: Clips) -> Figure:
    return values.abs().flatten(1).mean(1)
