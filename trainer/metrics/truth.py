"""Motion of clips that have a true clip: predictions of its frames, or estimates from noise."""

import math

import torch

from flow_cache import FlowEstimator
from trainer.metrics.differences import Clips
from trainer.metrics.motion import motion_of

OCCLUDED = 0.3  # weight of pixels that are hidden in the true clip, as in FlowLoss


def relative_error(error: float, floor: float, still: float) -> float:
    """(error − floor)/(still − floor): 0 is the truth, 1 is standing still, above is worse.

    Args:
        error: FlowLoss without weights, px² per pixel; `flow_error` of metrics.jsonl.
        floor: that of the true clips.
        still: that of clips that stand still.

    Returns:
        NaN where still is not above floor: there was no motion to get right.
    """
    return (error - floor) / (still - floor) if still > floor else math.nan


@torch.no_grad()
def motion_error(frames: Clips, true: Clips, estimator: FlowEstimator) -> dict[str, float]:
    """FlowLoss without weights of clips against their true clips, both by one estimator.

    Returns:
        flow_error: mean o·‖F(true) − F(frames)‖², o = 1 where the true clip's pixel is visible and
            0.3 elsewhere; px² per pixel.
        flow_still: mean o·‖F(true)‖², what standing still costs.
        flow_relative: `relative_error` of them; the floor is 0, because nothing was stored.
    """
    truth, made = motion_of(true, estimator), motion_of(frames, estimator)
    weight = torch.where(truth.visible, 1.0, OCCLUDED)
    error, still = (
        (weight * off.square().sum(2)).mean().item() for off in (truth.flow - made.flow, truth.flow)
    )
    relative = relative_error(error, 0.0, still)
    return {"flow_error": error, "flow_still": still, "flow_relative": relative}
