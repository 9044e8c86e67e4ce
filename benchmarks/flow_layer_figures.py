"""What rounding does to the flow of one clip: bytes, FlowLoss's floor and gradient, composition."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
import zstandard
from torch import Tensor

from flow_cache import (
    FlowEstimator,
    FlowField,
    FlowSpec,
    Pair,
    RoundTrip,
    decode_field,
    encode_field,
    estimate_clip,
    field_bound,
    flow_between,
    level_pairs,
    measure_round_trip,
    warp,
)
from flow_cache.coding.residual import pack, predict
from pipeline.planning.config import BuildConfig
from shards import decode_clip, encode_clip

LEVELS, SPANS = (1, 2, 4), (2, 4, 8, 16)
DEFAULT = BuildConfig()
NO_SPEC = "0" * 64
HIDDEN = 0.3  # weight of hidden pixels in FlowLoss

CHOSEN, BACKWARD, FIRST = "by round trip", "by round trip, backward", "first layout, 1/32"
Figures = dict[str, dict[str, Any]]
Bound = Callable[[FlowField, RoundTrip], float]
BOUNDS: dict[str, Bound] = {
    **{f"1/{n}": lambda field, trip, n=n: 1 / n for n in (32, 16, 8, 4, 2)},  # type: ignore[misc]
    CHOSEN: lambda field, trip: field_bound(
        DEFAULT.max_error_px, trip.rms, field.flow.abs().max().item()
    ),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Motion:
    """A clip's flow.

    Attributes:
        clip_bytes: of its video.
        stored: the stored clip's frames, RGB in [0, 1].
        fields: of all levels and directions, on the source's frames.
        live: flow on the stored clip's frames, of all levels, forward.
    """

    clip_bytes: int
    stored: Tensor
    fields: dict[Pair, FlowField]
    live: dict[Pair, Tensor]


def forward_pairs(frames: int) -> list[Pair]:
    return list(level_pairs(frames, LEVELS, ("forward",)))


def motion_of(frames: np.ndarray, estimator: FlowEstimator, spec: FlowSpec) -> Motion:
    """Flow of one clip, uint8 [t, 3, h, w], and of what its video gives back."""
    video = encode_clip(frames, Fraction(24))
    stored = torch.from_numpy(decode_clip(video))
    pairs = forward_pairs(len(frames))
    live, _ = estimator.clip(stored, pairs)
    return Motion(
        clip_bytes=len(video),
        stored=stored.float() / 255,
        fields=estimate_clip(estimator, torch.from_numpy(frames), spec),
        live=dict(zip(pairs, live.split(1), strict=True)),
    )


def coded(fields: dict[Pair, FlowField], bounds: dict[Pair, float]) -> dict[Pair, bytes]:
    return {
        pair: encode_field(
            fields[pair].flow[0],
            fields[pair].visible[0],
            pair=pair,
            max_error_px=bound,
            spec_digest=NO_SPEC,
        )
        for pair, bound in bounds.items()
    }


def bounds_of(motion: Motion) -> dict[str, dict[Pair, float]]:
    """Of every forward field, by every rule; and of backward ones as a build would have it."""
    fields = motion.fields
    trips = {
        (i, j): measure_round_trip(field, fields[j, i].flow) for (i, j), field in fields.items()
    }
    bounds = {
        name: {pair: rule(fields[pair], trips[pair]) for pair in motion.live}
        for name, rule in BOUNDS.items()
    }
    back = {pair: BOUNDS[CHOSEN](fields[pair], trips[pair]) for pair in fields.keys() - motion.live}
    return bounds | {BACKWARD: back}


def weights(visible: Tensor) -> Tensor:
    """FlowLoss's o of a pair that is stored as it is."""
    return torch.where(visible, 1.0, HIDDEN)[:, None]


def floor(motion: Motion, fields: dict[Pair, FlowField], level: int) -> float:
    """FlowLoss of the true stored clip over a level's pairs, px² a pixel."""
    errors = [
        (weights(fields[i, j].visible) * (motion.live[i, j] - fields[i, j].flow) ** 2).sum(1).mean()
        for i, j in motion.live
        if j - i == level
    ]
    return torch.stack(errors).mean().item()


def gradients(
    motion: Motion, versions: Sequence[dict[Pair, FlowField]], estimator: FlowEstimator
) -> list[list[float]]:
    """Cosines of each version's FlowLoss gradient with the first one's, by level: one pair each."""
    cosines: list[list[float]] = [[] for _ in versions]
    for level in LEVELS:
        i, j = next((i, j) for i, j in motion.live if j - i == level and i >= level)
        images = motion.stored[[i, j]].clone().requires_grad_()
        live = estimator.pair(images[:1], images[1:])
        found = []
        for fields in versions:
            field = fields[i, j]
            loss = (weights(field.visible) * (live - field.flow) ** 2).sum(1).mean()
            (gradient,) = torch.autograd.grad(loss, images, retain_graph=True)
            found.append(gradient.flatten())
        for row, gradient in zip(cosines, found, strict=True):
            row.append(torch.cosine_similarity(found[0], gradient, dim=0).item())
    return cosines


def composed(fields: dict[Pair, FlowField], frames: int) -> list[FlowField]:
    """Forward flow over each span from the first frame, through what the default layer holds."""
    held = {(i, j): field for (i, j), field in fields.items() if j > i}
    return [flow_between(0, span, held) for span in SPANS if span < frames]


def compare_spans(exact: Sequence[FlowField], rounded: Sequence[FlowField]) -> list[list[float]]:
    """For each span: mean square change in px², and share of equal visibility."""
    rows = []
    for before, after in zip(exact, rounded, strict=True):
        both = before.visible & after.visible
        change = (before.flow - after.flow).square().sum(1)[both]
        equal = (before.visible == after.visible).float().mean().item()
        rows.append([change.mean().item() if change.numel() else math.nan, equal])
    return rows


def first_layout(field: FlowField, max_error_px: float) -> int:
    """Bytes of a field as the first layout had it, without the header."""
    steps = np.rint(field.flow[0].numpy() / (2 * max_error_px)).astype(np.int16)
    parts = *pack(predict(steps)), np.packbits(field.visible.numpy())
    compress = zstandard.ZstdCompressor(level=9).compress
    return sum(len(compress(part.tobytes())) for part in parts)


def across(motion: Motion, bound: float = 1 / 4) -> dict[str, list[int]]:
    """Bytes of a field by itself, and of what is left when it is predicted from stored others."""

    def size(flow: Tensor) -> int:
        seen = np.ones(flow.shape[2:], bool)
        return len(
            encode_field(flow[0], seen, pair=(0, 1), max_error_px=bound, spec_digest=NO_SPEC)
        )

    def rounded(pair: Pair) -> FlowField:
        field = motion.fields[pair]
        return decode_field(coded({pair: field}, {pair: bound})[pair]).field

    ones = {(i, i + 1): rounded((i, i + 1)) for i in range(4)}
    inverse = -ones[0, 1].flow
    for _ in range(3):  # of the fixed point b(q) = -f(q + b(q))
        inverse = -warp(ones[0, 1].flow, inverse)
    predictions = {
        "level 2 from composed level 1": ((0, 2), flow_between(0, 2, ones).flow),
        "level 4 from composed level 1": ((0, 4), flow_between(0, 4, ones).flow),
        "backward from inverted forward": ((1, 0), inverse),
        "the next field from this one": ((1, 2), ones[0, 1].flow),
    }
    flows = {name: motion.fields[pair].flow for name, (pair, _) in predictions.items()}
    return {
        name: [size(flows[name]), size(flows[name] - predicted)]
        for name, (_, predicted) in predictions.items()
    }


def measure(motion: Motion, estimator: FlowEstimator) -> Figures:
    """Figures of one clip, by bound; some have sizes alone."""
    frames = len(motion.stored)
    blobs = {name: coded(motion.fields, bounds) for name, bounds in bounds_of(motion).items()}
    decoded = {
        name: {pair: decode_field(blob).field for pair, blob in blobs[name].items()}
        for name in BOUNDS
    }
    cosines = gradients(motion, [motion.fields, *decoded.values()], estimator)
    exact = composed(motion.fields, frames)
    old = {pair: first_layout(motion.fields[pair], 1 / 32) for pair in motion.live}
    sizes = {name: {pair: len(blob) for pair, blob in of.items()} for name, of in blobs.items()}
    figures: Figures = {name: {"sizes": _sizes(of)} for name, of in {**sizes, FIRST: old}.items()}
    for (name, fields), cosine in zip(decoded.items(), cosines[1:], strict=True):
        figures[name] |= {
            "floors": [floor(motion, fields, level) for level in LEVELS],
            "cosines": cosine,
            "spans": compare_spans(exact, composed(fields, frames)),
        }
    along_one = {pair: field for pair, field in motion.fields.items() if pair[1] - pair[0] == 1}
    figures["unrounded"] = {
        "floors": [floor(motion, motion.fields, level) for level in LEVELS],
        "composed": [_composed_floor(motion, along_one, level) for level in LEVELS],
        "px": torch.stack([f.norm(dim=1).mean() for f in motion.live.values()]).mean().item(),
    }
    return figures | {"clip": {"bytes": motion.clip_bytes}, "across": across(motion)}


def _sizes(sizes: dict[Pair, int]) -> list[list[int]]:
    """By level: bytes of its fields, and how many there are."""
    of_levels = [[size for (i, j), size in sizes.items() if abs(j - i) == s] for s in LEVELS]
    return [[sum(of), len(of)] for of in of_levels]


def _composed_floor(motion: Motion, along_one: dict[Pair, FlowField], level: int) -> float:
    """The floor of a level that is not stored: hidden pixels of a chain do not count."""
    errors = []
    for i, j in motion.live:
        if j - i == level:
            field = flow_between(i, j, along_one)
            square = (motion.live[i, j] - field.flow).square().sum(1)
            errors.append((field.visible * square).mean())
    return torch.stack(errors).mean().item()
