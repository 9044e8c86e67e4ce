"""Visibility from a forward and a backward flow.

A criterion's id is part of the flow spec, because masks of different criteria do not mix: where
both flows are 20 pixels long the squared test tolerates 2.92 px, the unsquared one 0.90 px.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from flow_cache.algebra import in_frame, length, targets, warp
from flow_cache.field import Flow, Visible

MATCHED = "fb-matched"  # with the pictures too: `flow_cache.matching`
DEFAULT_CRITERION = MATCHED
NATIVE = "native"  # the estimator itself says what is visible


def agree(x: Any, y: Any, back_x: Any, back_y: Any) -> Any:
    """Whether vectors there and back cancel: Sundaram, Brox, Keutzer 2010, eq. 5.

    |f + b|^2 <= 0.01 (|f|^2 + |b|^2) + 0.5, of arrays or tensors of components in pixels.
    """
    gap = (x + back_x) ** 2 + (y + back_y) ** 2
    motion = (x**2 + y**2) + (back_x**2 + back_y**2)
    return gap <= 0.01 * motion + 0.5


def footprint_consistency(forward: Flow, backward: Flow) -> Visible:
    """Whether at least half of where a pixel lands leads back, and it lands in the frame.

    A pixel lands on up to four; each says whether its own vector agrees, and counts by its bilinear
    weight. (Interpolating their vectors instead would make up a motion at every outline.)
    """
    n, _, height, width = forward.shape
    x, y = (part.nan_to_num() for part in targets(forward))
    x, y = x.clamp(0, width - 1), y.clamp(0, height - 1)  # beyond its centre a border pixel answers
    left, top = x.floor().clamp(max=max(width - 2, 0)), y.floor().clamp(max=max(height - 2, 0))
    share = torch.zeros_like(x)
    for column, weight_x in ((left, left + 1 - x), (left + 1, x - left)):
        for row, weight_y in ((top, top + 1 - y), (top + 1, y - top)):
            index = (row.clamp(max=height - 1) * width + column.clamp(max=width - 1)).long()
            back = backward.flatten(2).gather(2, index.view(n, 1, -1).expand(-1, 2, -1))
            leads_back = agree(*forward.unbind(1), *back.view_as(forward).unbind(1))
            share += weight_x * weight_y * leads_back
    return (share >= 0.5) & in_frame(forward)


def squared_consistency(forward: Flow, backward: Flow) -> Visible:
    """`agree` with the *interpolated* backward flow, and no end beyond the outermost centres."""
    back = warp(backward, forward)
    return agree(*forward.unbind(1), *back.unbind(1)) & _between_centres(forward)


def _between_centres(flow: Flow) -> Visible:
    """What earlier criteria call inside: half a pixel less on each side than `in_frame`."""
    x, y = targets(flow)
    height, width = flow.shape[-2:]
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def unsquared_consistency(forward: Flow, backward: Flow) -> Visible:
    """|wf + wb| < 0.01 (|wf| + |wb|) + 0.5, as in DOT (arXiv 2312.00786) and CVO's masks."""
    warped = warp(backward, forward)
    agrees = length(forward + warped) < 0.01 * (length(forward) + length(warped)) + 0.5
    return agrees & _between_centres(forward)


def range_map(backward: Flow) -> Float[Tensor, "n h w"]:
    """How much of the target frame lands on each source pixel (Wang et al., arXiv 1711.05890).

    Splats every pixel q of the target frame bilinearly at q + backward(q): exactly 1 everywhere
    for identity flow, near 0 on pixels nothing comes from.
    """
    n, _, height, width = backward.shape
    x, y = targets(backward)
    left, top = x.floor(), y.floor()
    coverage = backward.new_zeros(n, height * width)
    for column, weight_x in ((left, left + 1 - x), (left + 1, x - left)):
        for row, weight_y in ((top, top + 1 - y), (top + 1, y - top)):
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            index = torch.where(inside, row * width + column, 0).long()
            weight = torch.where(inside, weight_x * weight_y, 0)
            coverage.scatter_add_(1, index.flatten(1), weight.flatten(1))
    return coverage.view(n, height, width)


def is_reached(forward: Flow, backward: Flow) -> Visible:
    """Range map of at least 0.75, the threshold of Jonschkowski et al. (arXiv 2006.04902).

    Needs no agreement of two flows, but calls zooming out an occlusion.
    """
    return (range_map(backward) >= 0.75) & _between_centres(forward)


CRITERIA: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    MATCHED: footprint_consistency,
    "fb-footprint": footprint_consistency,
    "fb-sundaram2010": squared_consistency,
    "fb-unsquared": unsquared_consistency,
    "range-map": is_reached,
}


def check_criterion(criterion: str) -> None:
    """ValueError for an id that is neither in `CRITERIA` nor `NATIVE`."""
    if criterion not in CRITERIA and criterion != NATIVE:
        known = ", ".join([*CRITERIA, NATIVE])
        raise ValueError(f"unknown occlusion criterion {criterion!r}; known are {known}")


def visibility(forward: Flow, backward: Flow, criterion: str) -> Visible:
    """Which pixels of the forward flow's source frame are seen in its target.

    Args:
        forward: pixels, source to target.
        backward: pixels, target to source, on the grid of the target.
        criterion: an id of `CRITERIA`. Whatever it says, a pixel that leaves the frame is
            invisible. "fb-matched" takes the flow to be exact at its edges, as true flow is;
            estimated flow is not: `matching.matched_visibility` looks at the pictures too.
    """
    if criterion not in CRITERIA:
        raise ValueError(
            f"occlusion criterion {criterion!r} does not work on two flows; "
            f"those that do are {', '.join(CRITERIA)}"
        )
    return CRITERIA[criterion](forward, backward)
