"""Figures that say how much a clip moves and how far to trust its flow."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from flow_cache.algebra import length, round_trip, warp
from flow_cache.field import Flow, FlowField, Frames, Visible
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


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """Length of the way there and back, |f(p) + b(p + f(p))|, over visible pixels.

    Attributes:
        mean, rms: pixels; NaN where no pixel is visible.
    """

    mean: float
    rms: float


def measure_round_trip(field: FlowField, back: Flow) -> RoundTrip:
    """Of one pair (n = 1) and the flow back from its target."""
    trips, visible = length(round_trip(field.flow, back)), field.visible
    trip = trips.cpu().numpy()[visible.cpu().numpy()]  # torch takes ten times as long to select
    if not trip.size:
        return RoundTrip(math.nan, math.nan)
    # Sums of numpy's do not depend on how many threads there are: the codec's bound hangs on them.
    mean, square = trip.mean(dtype=np.float64), np.square(trip).mean(dtype=np.float64)
    return RoundTrip(float(mean), math.sqrt(square))


def clip_quality(
    frames: Frames,
    fields: Mapping[Pair, FlowField],
    round_trips: Mapping[Pair, float | None],
    saturated: int = 0,
) -> dict[str, float]:
    """Figures of a clip over its forward pairs of the shortest stride; NaN where there is nothing.

    Args:
        frames: RGB.
        fields: the clip's fields (n = 1) by pair; figures use backward pairs if there are no
            forward ones.
        round_trips: `RoundTrip.mean` of fields, None or absent where it is not known.
        saturated: components the codec clipped, over all fields of the clip.

    Returns:
        magnitude_mean, magnitude_p95: length of the flow in pixels.
        occluded_share: share of pixels that are not visible in the target frame.
        fb_error_mean: |f(p) + b(p + f(p))| in pixels over visible pixels, of the estimates before
            they were rounded; NaN where it is not known.
        photometric_error: |source(p) - target(p + f(p))| in grey levels (0 to 255) over visible
            pixels.
        photometric_still: the same without flow, over the same pixels: what there was to explain.
        saturated: as given.
    """
    pairs = _one_way(fields)
    if not pairs:
        return dict.fromkeys(FIGURES, math.nan) | {"saturated": float(saturated)}
    visible = torch.cat([fields[pair].visible for pair in pairs])
    grey = [_luma(frame) for frame in frames]
    # One pair after the other, so that its planes stay inside the processor's cache.
    compared = [_compare(grey[i], grey[j], fields[i, j].flow) for i, j in pairs]
    magnitude, error, still = map(torch.cat, zip(*compared, strict=True))
    figures = (
        magnitude.mean().item(),
        _percentile(magnitude, 0.95),
        1 - visible.float().mean().item(),
        _mean_round_trip(pairs, fields, round_trips),
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
    source: Float[Tensor, "1 1 h w"], target: Float[Tensor, "1 1 h w"], flow: Flow
) -> tuple[Float[Tensor, "1 h w"], ...]:
    """Length of the flow, photometric error with it and without."""
    seen = warp(target, flow)
    return length(flow), (source - seen).abs()[:, 0], (source - target).abs()[:, 0]


def _mean_round_trip(
    pairs: Sequence[Pair],
    fields: Mapping[Pair, FlowField],
    round_trips: Mapping[Pair, float | None],
) -> float:
    """Over the visible pixels of those pairs of which it is known."""
    known = [
        (trip, int(fields[pair].visible.sum()))
        for pair in pairs
        if (trip := round_trips.get(pair)) is not None
    ]
    pixels = sum(count for _, count in known)
    return sum(trip * count for trip, count in known) / pixels if pixels else math.nan


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
