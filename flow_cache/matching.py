"""Visibility from the flow and the pictures of a pair of frames: the criterion "fb-matched".

An estimator smooths flow over the outlines of what moves, and it is there that pixels get hidden: a
mask from such flow is off by some pixels. Vectors there do not lead back, so pixels about such are
doubtful. A doubtful pixel may take over the vector of one some way off, if that leads to a more
similar place (as PatchMatch propagates vectors, Barnes 2009). It is visible if its vector then
leads there and back again, or if one near by does and its ends look alike. The flow that a layer
stores stays as the estimator gave it.

Of most frames little is doubtful, and only that is looked at twice: lists of pixels travel, in rows
because OpenCV takes no side above 32,767.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeAlias

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Complex64, Float32, Int64, UInt8
from torch import Tensor

from flow_cache.occlusion import agree

Picture: TypeAlias = UInt8[np.ndarray, "h w 4"]  # RGB and any: OpenCV samples 4 channels fastest
Field: TypeAlias = Complex64[np.ndarray, "h w"]  # vectors of a frame
Truth: TypeAlias = Bool[np.ndarray, "h w"]
Mask: TypeAlias = UInt8[np.ndarray, "h w"]  # 1 and 0
List: TypeAlias = Int64[np.ndarray, " k"]  # of pixels, by their number in a flat frame
Pixels: TypeAlias = Int64[np.ndarray, "rows columns"]  # such a list in rows
Vectors: TypeAlias = Complex64[np.ndarray, "rows columns"]  # x + iy, pixels: NumPy moves one number
Truths: TypeAlias = Bool[np.ndarray, "rows columns"]
Grey: TypeAlias = UInt8[np.ndarray, "rows columns"]

# Where to take vectors from, (dx, dy) in pixels: further to sharpen than to confirm.
FAR = ((12, 0), (-12, 0), (0, 12), (0, -12))
NEAR = ((3, 0), (-3, 0), (0, 3), (0, -3))
DOUBT = 7  # pixels, the side of the square about one that does not lead back
MAJORITY = 5  # pixels, the side of the square that decides in the end
UNLIKE = 40  # grey levels: places that differ more are no less alike
ALIKE = 16  # grey levels that two views of one place may differ by
BEYOND = 1e9  # pixels: flow that is no number leaves the frame
COLUMNS = 512  # of a list in rows: frames of 2^23 pixels have 16,384


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _View:
    """A frame and its flow to the other one of its pair.

    Attributes:
        flow: x and y apart, pixels: OpenCV samples planes faster.
        vectors: the same, x + iy.
        ends: where the flow leads as the estimator gave it.
        inside: whether these are in the frame.
    """

    picture: Picture
    flow: Sequence[Float32[np.ndarray, "h w"]]
    vectors: Field
    ends: Field
    inside: Truth


def matched_visibility(
    pictures: UInt8[Tensor, "2 3 h w"], flows: Float32[Tensor, "2 2 h w"]
) -> Bool[Tensor, "2 h w"]:
    """Which pixels of each of two frames are seen in the other.

    Args:
        pictures: the two frames, RGB.
        flows: pixels, from the first to the second and back; on the CPU.
    """
    finite = torch.nan_to_num(flows, BEYOND).clamp(-BEYOND, BEYOND)
    a, b = map(_view, pictures.cpu().numpy(), finite.numpy())
    kept = _kept(a, b), _kept(b, a)
    near = _near_lost(a, kept[0]), _near_lost(b, kept[1])
    doubtful = _doubtful(a, *near), _doubtful(b, *near[::-1])
    a, b = _sharpened(a, b, doubtful[0]), _sharpened(b, a, doubtful[1])
    seen = _seen(a, b, kept[0], doubtful[0]), _seen(b, a, kept[1], doubtful[1])
    return torch.from_numpy(np.stack(seen))


def _view(frame: UInt8[np.ndarray, "3 h w"], flow: Float32[np.ndarray, "2 h w"]) -> _View:
    parts = list(flow)
    vectors = _complex(cv2.merge(parts))
    ends = _grid(*vectors.shape) + vectors
    return _View(
        picture=cv2.merge([*frame, frame[0]]),
        flow=parts,
        vectors=vectors,
        ends=ends,
        inside=_inside(ends, vectors.shape),
    )


def _kept(view: _View, other: _View) -> Truth:
    """Pixels whose vectors stay in the frame and lead back."""
    return _lead_back(view.flow, view.ends, other) & view.inside


def _near_lost(view: _View, kept: Truth) -> Mask:
    """Pixels that stay in the frame but do not lead back, and those about them."""
    lost = (view.inside & ~kept).view(np.uint8)
    return cv2.dilate(lost, np.ones((DOUBT, DOUBT), np.uint8))


def _doubtful(view: _View, near: Mask, near_in_other: Mask) -> Pixels:
    """Pixels that are near lost ones, or lead to such."""
    reached = _sample(near_in_other, view.ends, cv2.INTER_NEAREST)
    return _in_rows(np.flatnonzero((near | reached).view(np.bool_) & view.inside))


def _sharpened(view: _View, other: _View, pixels: Pixels) -> _View:
    """With, for some pixels, the best of their own vectors and those of `FAR`."""
    if not pixels.size:
        return view
    starts, best = _grid(*view.vectors.shape).take(pixels), view.vectors.take(pixels)
    picture = _sample(view.picture, starts, cv2.INTER_NEAREST)
    plane = np.full(view.vectors.shape, UNLIKE // 2, np.uint8)

    def differences(vectors: Vectors) -> Grey:
        """Means of 3x3 pixels, each with its own vector."""
        plane.put(pixels, _differences(picture, other.picture, starts + vectors))
        return cv2.blur(plane, (3, 3)).take(pixels)

    least = differences(best)
    for vectors in _around(view.vectors, FAR, pixels):
        difference = differences(vectors)
        np.copyto(best, vectors, where=difference < least)
        np.minimum(least, difference, out=least)
    sharpened = view.vectors.copy()
    sharpened.put(pixels, best)
    return replace(view, vectors=sharpened, flow=cv2.split(_xy(sharpened)))


def _seen(view: _View, other: _View, kept: Truth, pixels: Pixels) -> Truth:
    """What is visible: `kept`, but for doubtful pixels what sharpened flow says; majority."""
    seen = kept.copy()
    if pixels.size:
        vectors = view.vectors.take(pixels)
        ends = _grid(*kept.shape).take(pixels) + vectors
        back = _lead_back(cv2.split(_xy(vectors)), ends, other) & _inside(ends, kept.shape)
        seen.put(pixels, back)
        _confirm(view, other, seen, pixels[~back])
    square = (MAJORITY, MAJORITY)
    votes = cv2.boxFilter(
        seen.view(np.uint8), -1, square, normalize=False, borderType=cv2.BORDER_REPLICATE
    )
    return (votes > MAJORITY**2 // 2) & view.inside


def _confirm(view: _View, other: _View, seen: Truth, lost: List) -> None:
    """Mark as seen the lost pixels whence a vector of `NEAR` leads to a place alike and back."""
    if not lost.size:
        return
    pixels = _in_rows(lost)
    starts = _grid(*seen.shape).take(pixels)
    found = []
    for vectors in _around(view.vectors, NEAR, pixels):
        back = _lead_back(cv2.split(_xy(vectors)), starts + vectors, other)
        found.append((pixels[back], vectors[back]))
    pixels, vectors = (_in_rows(np.concatenate(part)) for part in zip(*found, strict=True))
    if pixels.size:
        starts = _grid(*seen.shape).take(pixels)
        picture = _sample(view.picture, starts, cv2.INTER_NEAREST)
        alike = _differences(picture, other.picture, starts + vectors) <= ALIKE
        seen.put(pixels[alike], True)


@lru_cache(maxsize=2)
def _grid(height: int, width: int) -> Field:
    """The place of each pixel."""
    rows, columns = np.ogrid[:height, :width]
    return (columns + 1j * rows).astype(np.complex64)


def _around(field: Field, offsets: Sequence[tuple[int, int]], pixels: Pixels) -> Iterator[Vectors]:
    """For each offset, the vectors that lie so far from some pixels; the border's beyond it."""
    reach = max(max(map(abs, offset)) for offset in offsets)
    sides = reach, reach, reach, reach
    wide = _complex(cv2.copyMakeBorder(_xy(field), *sides, cv2.BORDER_REPLICATE))
    rows, columns = np.divmod(pixels, field.shape[1])
    middle = (rows + reach) * wide.shape[1] + (columns + reach)
    for dx, dy in offsets:
        yield wide.take(middle + (dy * wide.shape[1] + dx))


def _differences(
    picture: UInt8[np.ndarray, "rows columns 4"], other: Picture, ends: Vectors
) -> Grey:
    """Grey levels between pixels and where they go, the largest of the channels'.

    A vector that leaves the frame counts half of `UNLIKE`: it says neither.
    """
    there = _sample(other, ends, cv2.INTER_LINEAR)
    red, green, blue, _ = cv2.split(cv2.absdiff(picture, there))
    difference = np.minimum(cv2.max(cv2.max(red, green), blue), UNLIKE)
    difference[~_inside(ends, other.shape[:2])] = UNLIKE // 2
    return difference


def _lead_back(flow: Sequence[np.ndarray], ends: Vectors, other: _View) -> Truths:
    """Whether at the pixel nearest to each vector's end the way back leads back."""
    return agree(*flow, *(_sample(part, ends, cv2.INTER_NEAREST) for part in other.flow))


def _inside(places: Vectors, size: tuple[int, ...]) -> Truths:
    """Whether places lie in the frame, as `flow_cache.algebra.in_frame` has it."""
    height, width = size
    return cv2.inRange(_xy(places), (-0.5, -0.5), (width - 0.5, height - 0.5)) > 0


def _in_rows(values: np.ndarray) -> np.ndarray:
    """A list as OpenCV takes it; its first values fill up the last row."""
    return np.resize(values, (-(-len(values) // COLUMNS), COLUMNS))


def _sample(plane: np.ndarray, places: Vectors, how: int) -> np.ndarray:
    """A plane of any channels at places, the border's beyond it."""
    border = cv2.BORDER_REPLICATE
    return cv2.remap(plane, _xy(places), None, how, borderMode=border)  # type: ignore[call-overload]


def _xy(vectors: Vectors) -> Float32[np.ndarray, "rows columns 2"]:
    return vectors.view(np.float32).reshape(*vectors.shape, 2)


def _complex(pairs: Float32[np.ndarray, "rows columns 2"]) -> Vectors:
    return pairs.view(np.complex64)[..., 0]
