"""Flow rounded at three sizes, each predicted from the next coarser one.

Flow is smooth almost everywhere: enlarged from a quarter of its size it is nearly right, and what
is left to store is nearly always 0. A prediction from neighbouring pixels would carry the rounding
of each into the next; this one averages it out.

All of a reader's arithmetic is exact in float32, because flow lies within 2^13 steps and, halved
and enlarged twice with weights of 1/4 and 3/4, gets 10 binary places: so every reader has the same
bits.
"""

from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from flow_cache.coding.residual import (
    BIAS,
    ESCAPE,
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
Size = tuple[int, int]


def scale_sizes(size: Size) -> list[Size]:
    """(height, width) of the scales, the coarsest first; each has half of the next, rounded up."""
    sizes = [size]
    for _ in range(SCALES - 1):
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes[::-1]


def code_bytes(size: Size) -> int:
    """Bytes of the codes of all scales of a field of (height, width)."""
    return sum(packed_sizes(scale)[0] for scale in scale_sizes(size))


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
    codes: UInt8[np.ndarray, " codes"],
    escapes: UInt8[np.ndarray, " escapes"],
    size: Size,
    step: float,
) -> Flow:
    """Flow from what `pack_scales` made of its steps.

    Raises:
        ValueError: sizes that cannot belong together.
    """
    sizes = scale_sizes(size)
    ends = np.cumsum([0, *(packed_sizes(scale)[0] for scale in sizes)])
    if codes.size != ends[-1]:
        raise ValueError(f"{codes.size} bytes of codes for a field of {size[0]}x{size[1]}")
    each = [codes[start:end] for start, end in pairwise(ends)]
    places = np.cumsum([0, *(8 * np.count_nonzero(part == ESCAPE) for part in each)])
    if escapes.size != places[-1]:
        raise ValueError(f"{escapes.size} bytes for {places[-1] // 8} escapes")
    apart = [escapes[start:end] for start, end in pairwise(places)]
    units = *[0.5] * (SCALES - 1), step  # of a scale: half steps for the next, pixels in the end
    flow = unpack(each[0], apart[0], sizes[0], units[0])
    for part, rest, scale, unit in zip(each[1:], apart[1:], sizes[1:], units[1:], strict=True):
        low, high = residual_bytes(part, rest, *scale)
        biased = low if high is None else (low + (high.astype(np.uint16) << 8)).view(np.int16)
        flow = enlarge(flow, scale)
        for plane, left in zip(flow, biased, strict=True):
            cv2.addWeighted(plane, unit, left, unit, -BIAS * unit, plane, cv2.CV_32F)
    return flow


def enlarge(flow: Flow, size: Size) -> Resized:
    """Twice as large, bilinear between pixel centres, borders repeated; cut to (height, width)."""
    height, width = flow.shape[1:]
    large = np.empty((2, 2 * height, 2 * width), np.float32)
    for plane, small in zip(large, flow, strict=True):
        cv2.resize(small, plane.shape[::-1], plane, interpolation=cv2.INTER_LINEAR)
    return large[:, : size[0], : size[1]]


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
