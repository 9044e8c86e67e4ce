"""Visibility from the flow and the pictures of a pair of frames: the criterion "fb-matched".

An estimator smooths flow over the outlines of what moves, and it is there that pixels get hidden: a
mask from such flow is off by some pixels. So near edges of the flow each pixel may take over the
vector of a pixel some way off, if that leads to a more similar place (as PatchMatch propagates
vectors, Barnes 2009). A pixel is visible if its vector leads there and back again, or if one near
by does and its ends look alike. The flow that a layer stores stays as the estimator gave it.
"""

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from torch import Tensor

from flow_cache.algebra import in_frame
from flow_cache.occlusion import agree

Vectors: TypeAlias = Float32[np.ndarray, "2 h w"]  # flow, pixels
Picture: TypeAlias = UInt8[np.ndarray, "h w 4"]  # RGB and zeros: OpenCV samples 4 channels fastest
Mask: TypeAlias = Bool[np.ndarray, "h w"]
Region: TypeAlias = tuple[slice, slice]  # of rows and columns
Part: TypeAlias = Float32[np.ndarray, "2 rows columns"]  # the vectors of a region
Plane: TypeAlias = Float32[np.ndarray, "rows columns"]
PartMask: TypeAlias = Bool[np.ndarray, "rows columns"]

# Where to take vectors from, (dx, dy) in pixels: further to sharpen than to confirm.
NEAR = ((3, 0), (-3, 0), (0, 3), (0, -3))
FAR = (*NEAR, (6, 6), (6, -6), (-6, 6), (-6, -6), (12, 0), (-12, 0), (0, 12), (0, -12))
REACH = 12  # the furthest of them
EDGE_PX = 0.7  # neighbours whose motions differ less hide nothing that the criterion would see
EDGE_REACH = 4  # pixels over which they differ
BAND = 32  # rows that are searched together, as wide as the edges in them reach
UNLIKE = 40  # grey levels: places that differ more are no less alike
ALIKE = 16  # grey levels that two views of one place may differ by


def matched_visibility(
    pictures: UInt8[Tensor, "2 3 h w"], flows: Float32[Tensor, "2 2 h w"]
) -> Bool[Tensor, "2 h w"]:
    """Which pixels of each of two frames are seen in the other.

    Args:
        pictures: the two frames, RGB.
        flows: pixels, from the first to the second and back; on the CPU.
    """
    first, second = map(_picture, pictures.cpu().numpy())
    forward, backward = torch.nan_to_num(flows, 0.0, 0.0, 0.0).numpy()  # `in_frame` hides those
    there = _sharpened(first, second, forward)
    back = _sharpened(second, first, backward)
    seen = (_seen(first, second, there, back), _seen(second, first, back, there))
    return torch.from_numpy(np.stack(seen)) & in_frame(flows)


def _picture(frame: UInt8[np.ndarray, "3 h w"]) -> Picture:
    return np.ascontiguousarray(np.stack((*frame, np.zeros_like(frame[0])), axis=-1))


def _sharpened(first: Picture, second: Picture, flow: Vectors) -> Vectors:
    """The flow with the best vectors of `FAR` near its edges; a median of 5x5 evens it out."""
    best, widened = flow.copy(), _widened(flow)
    for region in _bands(_near_edges(flow)):
        chosen = best[:, *region]
        least = _difference(first, second, chosen, region)
        for vectors in _around(widened, FAR, region):
            difference = _difference(first, second, vectors, region)
            better = difference < least
            np.copyto(chosen, vectors, where=better)
            np.copyto(least, difference, where=better)
    return np.stack([cv2.medianBlur(component, 5) for component in best])


def _seen(first: Picture, second: Picture, forward: Vectors, backward: Vectors) -> Mask:
    """Where `forward`, or a vector of `NEAR` between places alike, leads back; majority of 3x3."""
    size = forward.shape[1:]
    whole = (slice(0, size[0]), slice(0, size[1]))
    seen = _leads_back(forward, backward, whole)
    lost = ~seen & ~_outside(*_targets(forward, whole), size)
    widened = _widened(forward)
    for region in _bands(lost):
        for vectors in _around(widened, NEAR, region):
            alike = _difference(first, second, vectors, region) <= ALIKE
            seen[region] |= lost[region] & alike & _leads_back(vectors, backward, region)
    return cv2.medianBlur(seen.astype(np.uint8), 3) > 0


def _near_edges(flow: Vectors) -> Mask:
    """Where flow varies within `EDGE_REACH` pixels, and as far from there as it may be smooth."""
    window = np.ones((2 * EDGE_REACH + 1, 2 * EDGE_REACH + 1), np.uint8)
    spread = [cv2.dilate(part, window) - cv2.erode(part, window) for part in flow]
    edges = (cv2.max(*spread) > EDGE_PX).astype(np.uint8)
    return cv2.dilate(edges, window, iterations=2) > 0


def _bands(where: Mask) -> Iterator[Region]:
    """Rectangles that hold all of `where`, from top to bottom."""
    for top in range(0, len(where), BAND):
        rows = slice(top, min(top + BAND, len(where)))
        columns = np.flatnonzero(where[rows].any(axis=0))
        if columns.size:
            yield rows, slice(int(columns[0]), int(columns[-1]) + 1)


def _widened(flow: Vectors) -> Float32[np.ndarray, "2 wider_h wider_w"]:
    """The flow with `REACH` pixels more on each side, of the border's vectors."""
    return np.pad(flow, ((0, 0), (REACH, REACH), (REACH, REACH)), mode="edge")


def _around(
    widened: Float32[np.ndarray, "2 wider_h wider_w"],
    offsets: Sequence[tuple[int, int]],
    region: Region,
) -> Iterator[Part]:
    """For each offset, the vectors that lie so far from the pixels of a region."""
    for offset in offsets:
        starts = (part.start + REACH + d for part, d in zip(region, offset[::-1], strict=True))
        sizes = (part.stop - part.start for part in region)
        rows, columns = (slice(n, n + size) for n, size in zip(starts, sizes, strict=True))
        yield widened[:, rows, columns]


def _targets(vectors: Part, region: Region) -> tuple[Plane, Plane]:
    """x and y to which the vectors of a region lead."""
    rows, columns = (np.arange(part.start, part.stop, dtype=np.float32) for part in region)
    return vectors[0] + columns, vectors[1] + rows[:, None]


def _difference(
    first: Picture, second: Picture, vectors: Part, region: Region
) -> UInt8[np.ndarray, "rows columns"]:
    """Grey levels between the ends of each vector: the largest of the channels', mean of 3x3.

    A vector that leaves the frame counts half of `UNLIKE`: it says neither.
    """
    x, y = _targets(vectors, region)
    there = cv2.remap(second, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    red, green, blue, _ = cv2.split(cv2.absdiff(first[region], there))
    difference = np.minimum(cv2.max(cv2.max(red, green), blue), UNLIKE)
    difference[_outside(x, y, second.shape[:2])] = UNLIKE // 2
    return cv2.blur(difference, (3, 3))


def _leads_back(vectors: Part, backward: Vectors, region: Region) -> PartMask:
    """Whether the backward vector at the pixel nearest to each vector's end leads back."""
    x, y = _targets(vectors, region)
    nearest = (cv2.INTER_NEAREST, cv2.BORDER_REPLICATE)
    back = [cv2.remap(part, x, y, nearest[0], borderMode=nearest[1]) for part in backward]
    return agree(*vectors, *back) & ~_outside(x, y, backward.shape[1:])


def _outside(x: Plane, y: Plane, size: tuple[int, ...]) -> PartMask:
    height, width = size
    return (x < -0.5) | (x > width - 0.5) | (y < -0.5) | (y > height - 0.5)
