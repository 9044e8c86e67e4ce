"""Fields as they travel to a device that decodes them: what zstd held, and not yet flow.

A residual has 2 bits there, a group of four that these cannot say 8 bytes more, and a pixel one bit
of visibility: a tenth of the arrays that it all becomes. What is left to do is arithmetic in whole
numbers, of 32 bits and of 64 (shifts, sums, a scatter in order), and then one product with a power
of two that float32 holds: every device gives the bits that `decode_field` gives.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int, Int16, UInt8
from torch import Tensor

from flow_cache.coding.codec import parts_of
from flow_cache.coding.header import THREE_SCALES, DamagedField, unseal
from flow_cache.coding.residual import BIAS, ESCAPE, Size, packed_sizes
from flow_cache.coding.scales import code_bytes, escape_counts, scale_sizes
from flow_cache.field import FlowField

_NO_RESIDUAL = 0b01010101  # the code of four zeros
_HALVED_AND_ENLARGED = 5  # bits that a scale adds to the fraction: weights are of 16, and then half


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PackedFields:
    """Fields of one size, or room for some.

    Attributes:
        size: (height, width).
        codes: of all scales, the coarsest first.
        escapes: residuals of the groups whose code is 255, field after field. Room is for all.
        bits: of visibility.
        steps: of each field, pixels.
    """

    size: Size
    codes: UInt8[Tensor, "n codes"]
    escapes: Int16[Tensor, "escapes 4"]
    bits: UInt8[Tensor, "n bits"]
    steps: Float32[Tensor, " n"]

    def tensors(self) -> list[Tensor]:
        """All of it."""
        return [self.codes, self.escapes, self.bits, self.steps]

    def split(self, parts: int) -> "list[PackedFields]":
        """Room in as many equal parts, views of it."""
        split = zip(*(tensor.chunk(parts) for tensor in self.tensors()), strict=True)
        return [
            PackedFields(size=self.size, codes=codes, escapes=escapes, bits=bits, steps=steps)
            for codes, escapes, bits, steps in split
        ]


def packed_room(count: int, size: Size, empty: Callable[..., Tensor] = torch.empty) -> PackedFields:
    """Room for some fields of (height, width), whatever they hold."""
    codes = code_bytes(size)
    return PackedFields(
        size=size,
        codes=empty(count, codes, dtype=torch.uint8),
        escapes=empty(count * codes, 4, dtype=torch.int16),
        bits=empty(count, packed_sizes(size)[1], dtype=torch.uint8),
        steps=empty(count, dtype=torch.float32),
    )


def open_fields(blobs: Sequence[bytes | None], room: PackedFields) -> int:
    """Undo the entropy coding of fields, and nothing else.

    Args:
        blobs: one for each field; None becomes one without motion that is visible nowhere.
        room: on the CPU, written to.

    Returns:
        How many of the room's escapes are in use.

    Raises:
        DamagedField: bytes that are not, or no longer, a flow field, or one of the first layout.
        ValueError: no such room for one.
    """
    escapes, steps, used = room.escapes.numpy(), room.steps.numpy()[:, None], 0
    places = zip(blobs, room.codes.numpy(), room.bits.numpy(), steps, strict=True)
    for blob, codes, bits, step in places:
        if blob is None:
            codes[:], bits[:], step[:] = _NO_RESIDUAL, 0, 0
            continue
        header, magic, frames = unseal(blob)
        if magic != THREE_SCALES:
            raise DamagedField(f"damaged flow field: {magic!r} in a layer of {THREE_SCALES!r}")
        if header.size != room.size:
            raise ValueError(f"a field of {header.size} has no place in a room of {room.size}")
        codes[:], stored, bits[:] = parts_of(header.size, magic, frames)
        step[:] = header.step_px
        count = stored.size // 8
        _join(stored, escape_counts(codes, room.size), escapes[used : used + count])
        used += count
    return used


def _join(
    stored: UInt8[np.ndarray, " bytes"],
    counts: Sequence[int],
    out: Int16[np.ndarray, "escapes 4"],
) -> None:
    """Residuals of the escapes of a field, whose scales have low and high bytes apart."""
    at = 0
    for count in counts:
        low, high = stored[8 * at : 8 * (at + count)].reshape(2, count, 4)
        here = out[at : at + count]
        np.left_shift(high, 8, out=here, dtype=np.int16)
        here += low
        at += count
    out -= BIAS


def restore_fields(packed: PackedFields) -> FlowField:
    """The fields that `decode_field` gives, on the device that they lie on; nobody waits for it."""
    sizes = scale_sizes(packed.size)
    of_scales = _residuals(packed).split([packed_sizes(size)[0] for size in sizes], dim=1)
    coarsest, *finer = map(_in_rows, of_scales, sizes)
    steps = _wrapped(coarsest.cumsum(-2).cumsum(-1))
    fraction = 0  # bits
    for left in finer:
        fraction += _HALVED_AND_ENLARGED
        height, width = left.shape[-2:]
        larger = _doubled(_doubled(steps.mT).mT)[..., :height, :width]
        steps = torch.add(larger, left, alpha=2**fraction)
    pixels = packed.steps[:, None, None, None] * 2.0**-fraction
    return FlowField(flow=steps.float().mul_(pixels), visible=_visible(packed.bits, packed.size))


def _residuals(packed: PackedFields) -> Int16[Tensor, "n codes 4"]:
    """Of four rows each, as codes say them or escapes do."""
    codes = packed.codes[..., None]
    shifts = torch.arange(0, 8, 2, dtype=torch.uint8, device=codes.device)
    residuals = ((codes >> shifts) & 3).to(torch.int16).sub_(1)
    return residuals.masked_scatter_(codes == ESCAPE, packed.escapes)


def _in_rows(residuals: Int16[Tensor, "n codes 4"], size: Size) -> Int[Tensor, "n 2 h w"]:
    """The residuals of one scale, where they belong."""
    height, width = size
    rows = residuals.unflatten(1, (-1, width)).mT.flatten(1, 2)[:, : 2 * height]
    return rows.reshape(-1, 2, height, width).to(torch.int32)


def _wrapped(sums: Int[Tensor, "n 2 h w"]) -> Int[Tensor, "n 2 h w"]:
    """Modulo 2^16, about 0."""
    return (((sums + 2**15) & (2**16 - 1)) - 2**15).to(torch.int32)


def _doubled(values: Int[Tensor, "*n w"]) -> Int[Tensor, "*n new_w"]:
    """Twice as many along the last axis, times 4: near ones count 3, far ones 1; edges repeat."""
    before = torch.cat((values[..., :1], values[..., :-1]), dim=-1)
    after = torch.cat((values[..., 1:], values[..., -1:]), dim=-1)
    return torch.stack((before, after), dim=-1).add_(values[..., None], alpha=3).flatten(-2)


def _visible(bits: UInt8[Tensor, "n bits"], size: Size) -> Tensor:
    """Bool [n, h, w]."""
    shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=bits.device)
    pixels = ((bits[..., None] >> shifts) & 1).bool().flatten(1)
    return pixels[:, : size[0] * size[1]].reshape(-1, *size)
