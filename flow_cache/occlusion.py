"""Visibility from a forward and a backward flow.

A criterion's id is part of the flow spec, because masks of different criteria do not mix: where
both flows are 20 pixels long the squared test tolerates 2.92 px, the unsquared one 0.90 px.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from flow_cache.algebra import in_frame, length, targets, warp
from flow_cache.field import Flow, Visible

DEFAULT_CRITERION = "fb-sundaram2010"
NATIVE = "native"  # the estimator itself says what is visible


def squared_consistency(forward: Flow, backward: Flow) -> Visible:
    """Sundaram, Brox, Keutzer 2010, eq. 5: |wf + wb|^2 <= 0.01 (|wf|^2 + |wb|^2) + 0.5.

    wb is the backward flow *warped* to the grid of the forward flow.
    """
    warped = warp(backward, forward)
    motion = _square(forward) + _square(warped)
    return _square(forward + warped) <= 0.01 * motion + 0.5


def _square(flow: Flow) -> Float[Tensor, "n h w"]:
    """Squared length of each vector; a sum over two planes takes longer than their squares."""
    x, y = flow.square().unbind(1)
    return x + y


def unsquared_consistency(forward: Flow, backward: Flow) -> Visible:
    """|wf + wb| < 0.01 (|wf| + |wb|) + 0.5, as in DOT (arXiv 2312.00786) and CVO's masks."""
    warped = warp(backward, forward)
    return length(forward + warped) < 0.01 * (length(forward) + length(warped)) + 0.5


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
    del forward
    return range_map(backward) >= 0.75


CRITERIA: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    DEFAULT_CRITERION: squared_consistency,
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
            invisible.
    """
    if criterion not in CRITERIA:
        raise ValueError(
            f"occlusion criterion {criterion!r} does not work on two flows; "
            f"those that do are {', '.join(CRITERIA)}"
        )
    return CRITERIA[criterion](forward, backward) & in_frame(forward)
