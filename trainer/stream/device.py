"""Batches on the device that trains: copied on a stream of their own, and decoded there.

A stored clip has 1.5 bytes a pixel; decoded to RGB by the host it has 3, and takes twice as long.
What is computed here is libswscale's integer arithmetic, on any device, so that frames are the
same to the last bit: chroma is interpolated bicubically, along rows and then along columns, to 15
bits; range and matrix of BT.709 follow in 13-bit fractions.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import accumulate, pairwise

import torch
from jaxtyping import UInt8
from torch import Tensor

from flow_cache import restore_fields
from trainer.spatial.transform import SpatialTransform
from trainer.stream.batch import Batch, FlowTargets, PackedTargets
from trainer.stream.buffers import Buffers
from trainer.stream.timing import GpuClock

_SMALLEST = 16  # below, libswscale has shorter filters
_SHARPNESS = 0.6  # of the bicubic: minus its slope one pixel away
_BLACK, _LUMA = 16 * 512, 9539  # 255 / 219 in 13 bits
_RED_V, _GREEN_U, _GREEN_V, _BLUE_U = 14686, -1747, -4366, 17305
_SHIFT = 22  # what is left are whole grey levels


class Delivery:
    """Lends memory for batches, and gives them out on a device, with RGB frames and with flow.

    On a GPU the host does not wait for the copies, and what it trains meanwhile goes on beside
    them; only what is asked of the GPU later, in the stream that is current then, follows them.

    Args:
        device: where batches go; None leaves them on the CPU.
        size: (height, width) of the frames.
        planes: frames come as the planes of the stored clip.
        packed: flow comes as the fields of the layer, where the device decodes them exactly.
    """

    def __init__(
        self,
        device: torch.device | None,
        size: tuple[int, int],
        *,
        planes: bool = False,
        packed: bool = False,
    ) -> None:
        self.device, self.planes = device or torch.device("cpu"), planes
        self.packed = packed
        self._size = size
        self._buffers = Buffers()
        self._side: torch.cuda.Stream | None = None
        self._clock = GpuClock()

    def empty(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """Memory to fill; for a GPU it is pinned, and torch lends it anew after the copies."""
        if self.device.type == "cuda":
            return torch.empty(shape, dtype=dtype, pin_memory=True)
        return self._buffers.empty(*shape, dtype=dtype)

    def __call__(self, batch: Batch) -> Batch:
        """The batch on the device; what came as planes and as fields becomes RGB and flow there."""
        if self.device.type != "cuda":
            return self._deliver(batch)
        if self._side is None:  # not before: who makes a stream may still fork
            self._side = torch.cuda.Stream(self.device)
        with torch.cuda.stream(self._side), self._clock:
            delivered = self._deliver(batch)
        delivered.seconds["gpu"] = self._clock.finished_s()  # of batches before this one
        current = torch.cuda.current_stream(self.device)
        current.wait_stream(self._side)
        for tensor in delivered.pixels():
            tensor.record_stream(current)  # else its memory may be lent again while it is read
        return delivered

    def _deliver(self, batch: Batch) -> Batch:
        moved = batch.to(self.device)
        if self.planes:
            moved = replace(moved, frames=self._shown(moved))
        if moved.packed is not None:
            moved = replace(moved, flow=flow_of(moved.packed, batch.spaces), packed=None)
        return moved

    def _shown(self, batch: Batch) -> UInt8[Tensor, "b t 3 h w"]:
        """RGB of a batch's planes, and of it what its plans show."""
        rgb = rgb_of(batch.frames, self._size)
        if not any(batch.spaces):
            return rgb
        shown = zip(rgb, batch.spaces, strict=True)
        return torch.stack(
            [clip if space is None else space.on_frames(clip) for clip, space in shown]
        )


def flow_of(packed: PackedTargets, spaces: Sequence[SpatialTransform | None]) -> FlowTargets:
    """What `answer_pairs` gives of the fields that `pack_pairs` packed.

    Args:
        spaces: what each sample of the batch shows of the pictures, with its flow; none resizes.
    """
    every, pairs = restore_fields(packed.fields), packed.hops.shape[1]
    found = [every[first : first + pairs] for first in range(0, len(every), pairs)]
    if any(spaces):
        boxes = [spaces[row] for row in packed.rows.tolist()]
        shown = zip(found, boxes, strict=True)
        found = [field if space is None else space.on_flow(field) for field, space in shown]
    return FlowTargets(
        rows=packed.rows,
        slots=packed.slots,
        hops=packed.hops,
        flow=torch.stack([field.flow for field in found]),
        visible=torch.stack([field.visible for field in found]),
    )


def rgb_of(planes: UInt8[Tensor, "*n p"], size: tuple[int, int]) -> UInt8[Tensor, "*n 3 h w"]:
    """What `decode_rgb` gives of the frames whose planes `decode_planes` gives.

    Args:
        planes: Y [h, w], U and V [h/2, w/2] of each frame, one after the other.
        size: (height, width), even, at least 16.
    """
    height, width = size
    if min(size) < _SMALLEST:
        raise ValueError(f"frames of {height}x{width}: on the device they are at least 16x16")
    leading, half = planes.shape[:-1], (height // 2, width // 2)
    parts = planes.split([height * width, half[0] * half[1], half[0] * half[1]], dim=-1)
    luma = parts[0].reshape(*leading, height, width).to(torch.int32) * 512
    luma = (luma - _BLACK) * _LUMA + (1 << (_SHIFT - 1))
    u, v = (_upsampled(part.reshape(*leading, *half)) for part in parts[1:])
    channels = (luma + v * _RED_V, luma + v * _GREEN_V + u * _GREEN_U, luma + u * _BLUE_U)
    rgb = torch.empty(*leading, 3, height, width, dtype=torch.uint8, device=planes.device)
    for number, channel in enumerate(channels):
        rgb[..., number, :, :] = channel.clamp_(0, (1 << 30) - 1) >> _SHIFT
    return rgb


def _upsampled(plane: UInt8[Tensor, "*n h w"]) -> Tensor:
    """Chroma less its middle, at twice the size, in 1/512 of a grey level, int32."""
    rows = (_doubled(plane.to(torch.int32), 14) >> 7).clamp_(max=2**15 - 1)
    return (_doubled(rows.mT, 12).mT + (1 << 9) - (128 << 19)) >> 10


def _doubled(values: Tensor, bits: int) -> Tensor:
    """Twice as many along the last axis, times 2^bits; what lies beyond an edge is as the edge."""
    count = values.shape[-1]
    at = torch.arange(-2, count + 2, device=values.device).clamp_(0, count - 1)
    padded = values[..., at]
    near = [padded[..., shift : shift + count] for shift in range(5)]
    before, after, first = _taps(bits)
    even, odd = _weighed(near[:4], before), _weighed(near[1:], after)
    even[..., :2] = _weighed([x[..., :2] for x in near[1:4]], first)
    return torch.stack((even, odd), dim=-1).flatten(-2)


def _weighed(values: Sequence[Tensor], taps: Sequence[int]) -> Tensor:
    total = values[0] * taps[0]
    for value, tap in zip(values[1:], taps[1:], strict=True):
        total.add_(value, alpha=tap)
    return total


@cache
def _taps(bits: int) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Weights in 2^-bits a quarter pixel before a sample, after it, and before the first two.

    These do without the sample farthest to the left, where libswscale begins to count.
    """
    before = [_bicubic(distance) for distance in (1.75, 0.75, 0.25, 1.25)]
    return _rounded(before, bits), _rounded(before[::-1], bits), _rounded(before[1:], bits)


def _bicubic(distance: float) -> float:
    d, c = distance, _SHARPNESS
    if d < 1:
        return (2 - c) * d**3 + (c - 3) * d**2 + 1
    return c * (-(d**3) + 5 * d**2 - 8 * d + 4)


def _rounded(weights: Sequence[float], bits: int) -> tuple[int, ...]:
    """Scaled to a sum of 2^bits; what rounding takes from one is given to the next."""
    ends = [round(2**bits * end / sum(weights)) for end in accumulate(weights, initial=0)]
    return tuple(end - begin for begin, end in pairwise(ends))
