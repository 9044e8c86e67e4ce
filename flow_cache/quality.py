"""Figures that say how much a clip moves and how far to trust its flow."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from flow_cache.algebra import length, warp
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
    visible = torch.cat([fields[pair].visible for pair in pairs])
    returning = [n for n, (i, j) in enumerate(pairs) if (j, i) in fields]
    grey = [_luma(frame) for frame in frames]
    # One pair after the other, so that its planes stay inside the processor's cache.
    compared = [_compare(grey[i], grey[j], fields[i, j], fields.get((j, i))) for i, j in pairs]
    magnitude, error, still, gap = map(torch.cat, zip(*compared, strict=True))
    figures = (
        magnitude.mean().item(),
        _percentile(magnitude, 0.95),
        1 - visible.float().mean().item(),
        _mean(gap, visible[returning]),
        _mean(error, visible),
        _mean(still, visible),
        float(saturated),
    )
    return dict(zip(FIGURES, figures, strict=True))


def _luma(frame: UInt8[Tensor, "3 h w"]) -> Float[Tensor, "1 1 h w"]:
    """Grey levels, 0 to 255."""
    red, green, blue = (plane * weight for plane, weight in zip(frame.float(), LUMA, strict=True))
    return (red + green + blue)[None, None]


def _compare(
    source: Float[Tensor, "1 1 h w"],
    target: Float[Tensor, "1 1 h w"],
    there: FlowField,
    back: FlowField | None,
) -> tuple[Float[Tensor, "_ h w"], ...]:
    """Length of the flow, photometric error with it and without, length of the round trip."""
    flow = there.flow
    seen = warp(target if back is None else torch.cat((target, back.flow), 1), flow)
    pictures = (source - seen[:, :1]).abs()[:, 0], (source - target).abs()[:, 0]
    return length(flow), *pictures, length(flow + seen[:, 1:]) if back else flow[:0, 0]


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
    rank = math.ceil(share * values.numel()) - 1
    return np.partition(values.flatten().cpu().numpy(), rank)[rank].item()  # torch takes twice this
