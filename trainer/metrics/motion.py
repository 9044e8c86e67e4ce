"""How far things move in a clip, and how well its frames agree along that motion.

The flow is estimated on the clip that is judged, by another estimator than the model was trained
with: else it is asked about what it was taught to say.
"""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flow_cache import FlowEstimator, length, load_estimator, visibility, warp
from flow_cache.estimators import split_name
from shards import UsageError
from trainer.metrics.differences import Clips, Figure

CRITERION = "fb-sundaram2010"  # the usual one of warping errors


def measuring_estimator(name: str = "dis", *, trained_with: Collection[str] = ()) -> FlowEstimator:
    """The estimator of figures.

    Args:
        name: as `load_estimator` takes it.
        trained_with: names of estimators whose flow the model was trained on: the layer's, and the
            one that ran live.

    Raises:
        UsageError: there is no such estimator here, or the model was trained with it.
    """
    if split_name(name)[0] in {split_name(other)[0] for other in trained_with}:
        other = "variational" if name.startswith("dis") else "dis"
        raise UsageError(
            f"the model was trained with the flow estimator {name!r}, which would judge what it "
            f"taught: measure with another one, such as --estimator {other}"
        )
    try:
        return load_estimator(name)
    except ValueError as error:
        raise UsageError(str(error)) from error


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Motion:
    """From each frame of some clips to the next.

    Attributes:
        flow: pixels.
        visible: True where a pixel of the first frame is seen in the second.
    """

    flow: Float[Tensor, "b n 2 h w"]
    visible: Bool[Tensor, "b n h w"]


@torch.no_grad()
def motion_of(frames: Clips, estimator: FlowEstimator) -> Motion:
    """The motion in clips, n = t − 1 pairs each.

    Raises:
        UsageError: the frames are too small for the estimator.
    """
    try:
        estimator.check_size((frames.shape[-2], frames.shape[-1]))
    except ValueError as error:
        raise UsageError(str(error)) from error
    shape = (frames.shape[0], frames.shape[1] - 1)
    first, second = frames[:, :-1].flatten(0, 1), frames[:, 1:].flatten(0, 1)
    forward, backward = estimator.pair(first, second), estimator.pair(second, first)
    seen = visibility(forward, backward, CRITERION)
    return Motion(flow=forward.unflatten(0, shape), visible=seen.unflatten(0, shape))


def motion_amount(motion: Motion) -> Figure:
    """Mean length of the flow, pixels a frame."""
    return length(motion.flow.flatten(0, 1)).unflatten(0, motion.flow.shape[:2]).mean((1, 2, 3))


def visible_share(motion: Motion) -> Figure:
    """Share of pixels that are found again in the next frame: the rest no warping error knows."""
    return motion.visible.float().mean((1, 2, 3))


def warping_error(frames: Clips, motion: Motion) -> Figure:
    """|I_t − I_{t+1}(p + F_{t→t+1}(p))| over visible pixels: mean of each pair, then over pairs.

    The article's WE has L1 here and samples I_{t−1} with a flow that starts there; it takes the one
    that starts where the sampled frame is compared. Pairs without a visible pixel are left out; NaN
    if no other are there.
    """
    first, second = frames[:, :-1].flatten(0, 1), frames[:, 1:].flatten(0, 1)
    visible = motion.visible.flatten(0, 1)
    off = (first - warp(second, motion.flow.flatten(0, 1))).abs().mean(1)
    each = torch.where(visible, off, 0.0).sum((1, 2)) / visible.sum((1, 2))  # 0/0 is NaN
    return each.unflatten(0, motion.flow.shape[:2]).nanmean(1)
