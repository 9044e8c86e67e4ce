"""Flow rounded at three sizes, each predicted from the next coarser one.

Flow is smooth almost everywhere: enlarged from a quarter of its size it is nearly right, and what
is left to store is nearly always 0. A prediction from neighbouring pixels would carry the rounding
of each into the next; this one averages it out.

All of a reader's arithmetic is exact in float32, because flow lies within 2^13 steps and, halved
and enlarged twice with weights of 1/4 and 3/4, gets 10 binary places: so every reader has the same
bits.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from flow_cache.coding.residual import (
    BIAS,
    ESCAPE,
    Escapes,
    Size,
    pack,
    packed_sizes,
    predict,
    residual_bytes,
    unpack,
)

SCALES = 3
LARGEST_STEP = 2**13  # components beyond so many steps saturate
REFINEMENTS = 2  # of the coarser flow; a third saves no more bytes
_LARGEST_RESIDUAL = 2**15 - 256  # what is left at coarse scales for the finer ones to take up

Flow = Float32[np.ndarray, "2 h w"]
Resized = Float32[np.ndarray, "2 new_h new_w"]


def scale_sizes(size: Size) -> list[Size]:
    """(height, width) of the scales, the coarsest first; each has half of the next, rounded up."""
    sizes = [size]
    for _ in range(SCALES - 1):
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes[::-1]


def code_bytes(size: Size) -> int:
    """Bytes of the codes of all scales of a field of (height, width)."""
    return sum(packed_sizes(scale)[0] for scale in scale_sizes(size))


def escape_counts(codes: UInt8[np.ndarray, " codes"], size: Size) -> list[int]:
    """How many escapes each scale of a field has."""
    ends = np.cumsum([packed_sizes(scale)[0] for scale in scale_sizes(size)])
    return [int(np.count_nonzero(part == ESCAPE)) for part in np.split(codes, ends[:-1])]


def clip_to_range(flow: Flow, step: float) -> tuple[Flow, int]:
    """Components in steps, and how many lay beyond 2^13 of them and were clipped."""
    with np.errstate(over="ignore"):  # to infinity, which is out of range all the same
        steps = flow * np.float32(1 / step)
    if np.abs(steps).max() <= LARGEST_STEP:
        return steps, 0
    clipped = np.clip(steps, -LARGEST_STEP, LARGEST_STEP)
    return clipped, int(np.count_nonzero(clipped != steps))


def pack_scales(steps: Flow) -> tuple[bytes, bytes]:
    """Codes and escapes of flow in steps, unrounded, scale after scale, the coarsest first.

    A coarser scale is rounded to half the step of the next: few bytes, which make all others fewer.
    """
    wanted = [steps]
    for _ in range(SCALES - 1):
        wanted.append(2 * _shrunk(wanted[-1]))
    known = np.rint(wanted[-1]).clip(-(2**15), 2**15 - 1)
    parts = [pack(predict(known.astype(np.int16)))]
    for target in wanted[-2:0:-1]:
        predicted = enlarge(known / 2, target.shape[1:])
        left = np.rint(target - predicted).clip(-_LARGEST_RESIDUAL, _LARGEST_RESIDUAL)
        parts.append(pack(left.astype(np.int16)))
        known = predicted + left
    predicted = enlarge(known / 2, steps.shape[1:])
    # In float64: float32's rounding of the difference could exceed the bound by 2^-24 of it.
    exact = np.subtract(steps, predicted, dtype=np.float64)
    parts.append(pack(np.rint(exact, out=exact).astype(np.int16)))
    codes, escapes = zip(*parts, strict=True)
    return b"".join(part.tobytes() for part in codes), b"".join(part.tobytes() for part in escapes)


def unpack_scales(
    codes: UInt8[np.ndarray, "n codes"],
    escapes: Sequence[Escapes],
    steps: Sequence[float],
    out: Sequence[Flow],
) -> None:
    """Flow of n fields from what `pack_scales` made of their steps, written to `out`.

    Many fields at a time, so that few calls are made, each of which lets go of the interpreter:
    else threads would wait for each other.

    Raises:
        ValueError: sizes that cannot belong together.
    """
    sizes = scale_sizes(out[0].shape[1:])
    ends = np.cumsum([packed_sizes(scale)[0] for scale in sizes])
    if codes.shape[1] != ends[-1]:
        height, width = sizes[-1]
        raise ValueError(f"{codes.shape[1]} bytes of codes for a field of {height}x{width}")
    parts = np.split(codes, ends[:-1], axis=1)
    counts = [[int(np.count_nonzero(field)) for field in part == ESCAPE] for part in parts]
    apart = _split(escapes, counts)
    known = unpack(parts[0], apart[0], sizes[0]).astype(np.float32)
    middle = np.empty((len(codes), 2, *sizes[1]), np.float32)
    _refine(known, parts[1], apart[1], [*middle])
    _refine(middle, parts[2], apart[2], out, steps)


def _refine(
    known: Float32[np.ndarray, "n 2 half_h half_w"],
    codes: UInt8[np.ndarray, "n codes"],
    escapes: Sequence[Escapes],
    out: Sequence[Flow],
    steps: Sequence[float] | None = None,
) -> None:
    """The next finer scale, in its steps or, where `steps` are given, in pixels.

    `known` is changed. `out` is gone over while it lies in the processor's cache.
    """
    size = out[0].shape[1:]
    known *= 0.5  # in steps of the next scale
    known -= BIAS  # of what is added; here it is a quarter of the work
    low, high = residual_bytes(codes, escapes, size)
    for number, flow in enumerate(out):
        _enlarge_into(known[number], flow)
        cv2.accumulate(low[number].reshape(-1, size[1]), flow.reshape(-1, size[1]))
        if high is not None:
            flow += np.float32(256) * high[number].view(np.int8)
        if steps is not None:
            flow *= np.float32(steps[number])


def _split(escapes: Sequence[Escapes], counts: Sequence[Sequence[int]]) -> list[list[Escapes]]:
    """Each field's escapes by scale, for the number of them that each scale of it has."""
    ends = 8 * np.cumsum(counts, axis=0)
    if ends[-1].tolist() != [part.size for part in escapes]:
        found = sum(part.size for part in escapes)
        raise ValueError(f"{found} bytes for {ends[-1].sum() // 8} escapes")
    fields = [np.split(part, cuts) for part, cuts in zip(escapes, ends[:-1].T, strict=True)]
    return [list(scale) for scale in zip(*fields, strict=True)]


def enlarge(flow: Flow, size: Size) -> Resized:
    """Twice as large, bilinear between pixel centres, borders repeated; cut to (height, width)."""
    large = np.empty((2, *size), np.float32)
    _enlarge_into(flow, large)
    return large


def _enlarge_into(flow: Flow, out: Resized) -> None:
    """`enlarge`, written to `out`."""
    height, width = 2 * flow.shape[1], 2 * flow.shape[2]
    for small, plane in zip(flow, out, strict=True):
        fits = plane.shape == (height, width)
        large = plane if fits else np.empty((height, width), np.float32)
        cv2.resize(small, (width, height), large, interpolation=cv2.INTER_LINEAR)
        if not fits:
            plane[:] = large[: plane.shape[0], : plane.shape[1]]


def _shrunk(flow: Flow) -> Resized:
    """Half as large, so that it enlarges to the same mean over every four pixels (nearly)."""
    small = _averages(flow)
    for _ in range(REFINEMENTS):
        small += _averages(flow - enlarge(small, flow.shape[1:]))
    return small


def _averages(flow: Flow) -> Resized:
    """Means over two by two pixels; beyond an odd side the border repeats."""
    height, width = flow.shape[1:]
    half = (-(-width // 2), -(-height // 2))
    odd = (0, height % 2, 0, width % 2)
    return np.stack(
        [
            cv2.resize(
                cv2.copyMakeBorder(plane, *odd, cv2.BORDER_REPLICATE) if any(odd) else plane,
                half,
                interpolation=cv2.INTER_AREA,
            )
            for plane in flow
        ]
    )
