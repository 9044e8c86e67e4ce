"""Figures that say how much a clip moves and how far to trust its flow."""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from flow_cache.algebra import length, round_trip, warp
from flow_cache.field import FlowField, Frames, Visible
from flow_cache.spec import Pair

FIGURES = (
    "magnitude_mean",
    "magnitude_p95",
    "occluded_share",
    "fb_error_mean",
    "photometric_error",
    "photometric_still",
    "saturated",
)
LUMA = (0.299, 0.587, 0.114)  # BT.601 weights of R, G, B


def clip_quality(
    frames: Frames, fields: Mapping[Pair, FlowField], saturated: int = 0
) -> dict[str, float]:
    """Figures of a clip over its forward pairs of the shortest stride; NaN where there is nothing.

    Args:
        frames: RGB.
        fields: the clip's fields (n = 1) by pair; figures use backward pairs if there are no
            forward ones.
        saturated: components the codec clipped, over all fields of the clip.

    Returns:
        magnitude_mean, magnitude_p95: length of the flow in pixels.
        occluded_share: share of pixels that are not visible in the target frame.
        fb_error_mean: |f(p) + b(p + f(p))| in pixels over visible pixels; NaN without the
            opposite direction.
        photometric_error: |source(p) - target(p + f(p))| in grey levels (0 to 255) over visible
            pixels.
        photometric_still: the same without flow, over the same pixels: what there was to explain.
        saturated: as given.
    """
    pairs = _one_way(fields)
    if not pairs:
        return dict.fromkeys(FIGURES, math.nan) | {"saturated": float(saturated)}
    flow = torch.cat([fields[pair].flow for pair in pairs])
    visible = torch.cat([fields[pair].visible for pair in pairs])
    magnitude = length(flow)
    returning = [n for n, (i, j) in enumerate(pairs) if (j, i) in fields]
    back = [fields[j, i].flow for i, j in pairs if (j, i) in fields]
    gap = length(round_trip(flow[returning], torch.cat(back))) if back else magnitude[:0]
    grey = (frames.float() * frames.new_tensor(LUMA, dtype=torch.float32).view(3, 1, 1)).sum(1)
    source, target = (grey[list(side)][:, None] for side in zip(*pairs, strict=True))
    figures = (
        magnitude.mean().item(),
        _percentile(magnitude, 0.95),
        1 - visible.float().mean().item(),
        _mean(gap, visible[returning]),
        _mean((source - warp(target, flow)).abs()[:, 0], visible),
        _mean((source - target).abs()[:, 0], visible),
        float(saturated),
    )
    return dict(zip(FIGURES, figures, strict=True))


def shortest_pairs(pairs: Iterable[Pair]) -> list[Pair]:
    """Those of the shortest stride, in both directions: `clip_quality` looks at no others."""
    pairs = list(pairs)
    nearest = min((abs(j - i) for i, j in pairs), default=0)
    return [(i, j) for i, j in pairs if abs(j - i) == nearest]


def _one_way(fields: Mapping[Pair, FlowField]) -> Sequence[Pair]:
    """Pairs of the shortest stride, forward ones if there are any."""
    pairs = shortest_pairs(fields)
    return [(i, j) for i, j in pairs if j > i] or pairs


def _mean(values: Float[Tensor, "n h w"], where: Visible) -> float:
    """Mean over the pixels of `where`, NaN if there is none."""
    return ((values * where).sum() / where.sum()).item()


def _percentile(values: Tensor, share: float) -> float:
    """The smallest value that `share` of all values do not exceed."""
    rank = math.ceil(share * values.numel())
    return values.flatten().kthvalue(rank).values.item()
