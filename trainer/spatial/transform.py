"""A box of the stored picture, resized and perhaps mirrored: one value for all of a sample.

Frames, flow and visibility are all answered from it, so they cannot disagree: vectors keep their
length in a box, scale with the picture, and dx changes sign in a mirror; what leads out of the box
is not visible. Frames are resized as torchvision and PIL do, by a triangle that covers a pixel's
surroundings in the stored picture, flow is taken at the centre of the new pixel (`flow_cache`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from flow_cache import FlowField, crop, flip, resize


@dataclass(frozen=True, kw_only=True, slots=True)
class SpatialTransform:
    """What a sample shows of the stored picture, the same in each of its frames.

    Attributes:
        stored: (height, width) of the stored picture.
        top, left, height, width: of the box, in its pixels.
        size: (height, width) that the box is shown at.
        flip: mirrored left to right.
    """

    stored: tuple[int, int]
    top: int
    left: int
    height: int
    width: int
    size: tuple[int, int]
    flip: bool = False

    def __post_init__(self) -> None:
        starts, sides = (self.top, self.left), (self.height, self.width)
        inside = all(
            0 <= start < start + side <= whole
            for start, side, whole in zip(starts, sides, self.stored, strict=True)
        )
        if not inside or min(self.size) < 1:
            raise ValueError(
                f"a box of {sides} at {starts}, shown at {self.size}: it must lie inside the "
                f"picture of {self.stored} and have a pixel at least"
            )

    @property
    def resizes(self) -> bool:
        """Whether pixels are shown that are not stored ones."""
        return (self.height, self.width) != self.size

    @property
    def box(self) -> tuple[slice, slice]:
        """Rows and columns of the stored picture."""
        rows = slice(self.top, self.top + self.height)
        return rows, slice(self.left, self.left + self.width)

    def write(
        self, planes: Sequence[UInt8[np.ndarray, "h w"]], out: UInt8[np.ndarray, "3 new_h new_w"]
    ) -> None:
        """Write one picture, given as red, green and blue, into its place.

        Raises:
            ValueError: the picture or the place has another size.
        """
        if planes[0].shape != self.stored or out.shape[1:] != self.size:
            raise ValueError(
                f"a picture of {planes[0].shape} for a place of {out.shape}, where {self.stored} "
                f"is shown at {self.size}"
            )
        boxes = [plane[self.box] for plane in planes]
        if self.resizes:
            stacked = torch.from_numpy(np.stack(boxes))[None]
            boxes = [*_resized(stacked, self.size)[0].numpy()]
        for plane, place in zip(boxes, out, strict=True):
            place[:] = plane[:, ::-1] if self.flip else plane

    def on_frames(self, frames: UInt8[Tensor, "t 3 h w"]) -> UInt8[Tensor, "t 3 new_h new_w"]:
        """Whole pictures, on any device, as `write` would write them."""
        shown = frames[..., self.box[0], self.box[1]]
        if self.resizes:
            shown = _resized(shown, self.size)
        return shown.flip(-1) if self.flip else shown

    def on_flow(self, field: FlowField) -> FlowField:
        """Flow between two frames that are both shown so, and where it is visible."""
        shown = crop(field, top=self.top, left=self.left, height=self.height, width=self.width)
        shown = resize(shown, self.size) if self.resizes else shown
        return flip(shown) if self.flip else shown


def _resized(
    frames: UInt8[Tensor, "n 3 h w"], size: tuple[int, int]
) -> UInt8[Tensor, "n 3 new_h new_w"]:
    return F.interpolate(frames, size=size, mode="bilinear", antialias=True)
