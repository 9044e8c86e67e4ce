"""The flow field and the conventions every module of this project holds to.

- Flow from frame a to frame b has channels (dx, dy) in pixels of the stored geometry: the pixel
  p = (x, y) of frame a is at p + flow(p) in frame b. x grows to the right, y downwards.
- Pixel centres lie on integers and a pixel covers half a unit about its own, so a frame of width
  w covers x in [-0.5, w - 0.5]; what ends outside has left it.
- Backward warping samples the *target* image at p + flow(p): bilinear, `align_corners=True`.
- Visibility is boolean, True = visible: the point seen at p in frame a is also seen in frame b,
  neither covered by something else nor outside the frame.
- Tensors: frames `uint8 [t, 3, h, w]` RGB, flow `float32 [n, 2, h, w]`, visibility
  `bool [n, h, w]`. Sizes are (height, width). Intervals are half-open.
- Flow never travels without its visibility: whatever changes one changes the other.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float32, UInt8
from torch import Tensor

Frames = UInt8[Tensor, "t 3 h w"]  # of a clip, RGB
Images = Float[Tensor, "n 3 h w"]  # RGB in [0, 1]
Flow = Float[Tensor, "n 2 h w"]  # (dx, dy) in pixels
Visible = Bool[Tensor, "n h w"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FlowField:
    """Flow and visibility of n frame pairs of one size.

    Attributes:
        flow: (dx, dy) in pixels.
        visible: on the same device, True = visible in the target frame.

    Raises:
        ValueError: wrong shape, dtype or device. Values are not looked at (no device sync).
    """

    flow: Float32[Tensor, "n 2 h w"]
    visible: Bool[Tensor, "n h w"]

    def __post_init__(self) -> None:
        if self.flow.ndim != 4 or self.flow.shape[1] != 2 or self.flow.dtype != torch.float32:
            raise ValueError(
                f"flow must be float32 [n, 2, h, w], got {self.flow.dtype} {list(self.flow.shape)}"
            )
        n, _, height, width = self.flow.shape
        if self.visible.shape != (n, height, width) or self.visible.dtype != torch.bool:
            raise ValueError(
                f"visible must be bool {[n, height, width]} to go with its flow, "
                f"got {self.visible.dtype} {list(self.visible.shape)}"
            )
        if self.flow.device != self.visible.device:
            raise ValueError(
                f"flow is on {self.flow.device} but visible on {self.visible.device}; "
                "move both with FlowField.to"
            )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.flow.shape[2], self.flow.shape[3]

    def to(self, device: torch.device | str) -> "FlowField":
        """The same field on `device`."""
        return FlowField(flow=self.flow.to(device), visible=self.visible.to(device))

    def __len__(self) -> int:
        return len(self.flow)

    def __getitem__(self, index: int | slice) -> "FlowField":
        """One pair or a slice of pairs; the leading dimension stays either way."""
        if isinstance(index, int):
            # range() turns a negative index into its place and raises IndexError out of range.
            start = range(len(self))[index]
            index = slice(start, start + 1)
        return FlowField(flow=self.flow[index], visible=self.visible[index])

    def __repr__(self) -> str:
        return f"FlowField(n={len(self)}, size={self.size}, device={self.flow.device})"
