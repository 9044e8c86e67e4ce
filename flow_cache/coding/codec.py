"""One flow field to self-describing bytes and back, with a stated maximum error.

A component is rounded to whole steps. The step is a power of two, not above twice the maximum
error, so that rounding is the only inexact operation and cannot exceed the bound. How the steps
become few bytes is told in `flow_cache.coding.scales`, the layout in docs/flow-format.md. Fields
of the first layout, which predicted each pixel from its neighbours, are read as well.

A clip's flow member is the concatenation of its fields in the order of `level_pairs`.

Each part of bytes to be read must state the size that the header's geometry gives it before memory
is asked for, so that no field costs more than one of its size does.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import zstandard
from jaxtyping import Bool, Float32, UInt8
from torch import Tensor

from flow_cache.coding.header import (
    ONE_SCALE,
    THREE_SCALES,
    DamagedField,
    FieldHeader,
    exact_step,
    seal,
    unseal,
)
from flow_cache.coding.residual import ESCAPE, MAX_PIXELS, packed_sizes, unpack
from flow_cache.coding.scales import clip_to_range, code_bytes, pack_scales, unpack_scales
from flow_cache.field import FlowField
from flow_cache.spec import Pair

Parts = tuple[
    UInt8[np.ndarray, " codes"], UInt8[np.ndarray, " escapes"], UInt8[np.ndarray, " bits"]
]
Opened = tuple[FieldHeader, bytes, tuple[memoryview, memoryview, memoryview]]
_AT_ONCE = 2**18  # pixels of fields that are decoded together: more leaves cache and kept memory
_held = threading.local()  # a thread's decompressor: to make one costs a third of its work


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DecodedField(FieldHeader):
    """A field with its header.

    Attributes:
        flow: (dx, dy) in pixels.
        visible: True = visible in the target frame.
    """

    flow: Float32[Tensor, "2 h w"]
    visible: Bool[Tensor, "h w"]

    @property
    def field(self) -> FlowField:
        """As a FlowField of one pair."""
        return FlowField(flow=self.flow[None], visible=self.visible[None])


def encode_field(
    flow: Float32[np.ndarray | Tensor, "2 h w"],
    visible: Bool[np.ndarray | Tensor, "h w"],
    *,
    pair: Pair,
    max_error_px: float,
    spec_digest: str,
    round_trip_px: float | None = None,
) -> bytes:
    """One field as bytes.

    Args:
        flow: pixels, on the CPU.
        visible: True = visible in the target frame.
        pair: (source, target) frame numbers within the clip.
        max_error_px: no component changes by more, save those that saturate: at 1/8 px these lie
            beyond 2,048 px.
        spec_digest: 64 hex digits, `FlowSpec.field_digest`.
        round_trip_px: to go into the header.

    Raises:
        ValueError: wrong shape or dtype, flow that is not finite, a frame above 2^23 pixels, a
            frame number outside [0, 2^32).
    """
    flow, visible = np.asarray(flow), np.asarray(visible)
    _check(flow, visible)
    step = exact_step(max_error_px)
    steps, saturated = clip_to_range(flow, step)
    compress = zstandard.ZstdCompressor(level=9).compress
    codes, escapes = pack_scales(steps)
    header = FieldHeader(
        pair=pair,
        size=visible.shape,
        max_error_px=max_error_px,
        step_px=step,
        saturated=saturated,
        spec_digest=spec_digest,
        round_trip_px=round_trip_px,
    )
    bits = np.packbits(visible).tobytes()
    return seal(header, (compress(codes), compress(escapes), compress(bits)))


def decode_field(blob: bytes) -> DecodedField:
    """The field that `encode_field` wrote, every component within the stated error.

    Raises:
        DamagedField: the bytes are not, or no longer, a flow field.
    """
    opened = unseal(blob)
    size = opened[0].size
    flow, visible = np.empty((2, *size), np.float32), np.empty(size, np.bool_)
    _decode([opened], [flow], [visible])
    return DecodedField(
        flow=torch.from_numpy(flow),
        visible=torch.from_numpy(visible),
        **{name: getattr(opened[0], name) for name in FieldHeader.__slots__},
    )


def decode_fields(
    blobs: Sequence[bytes],
    flow: Sequence[Float32[np.ndarray, "2 h w"]],
    visible: Sequence[Bool[np.ndarray, "h w"]],
) -> list[FieldHeader]:
    """`decode_field` of fields of one size, each written to where it is wanted; returns headers.

    Together they take less time than one by one: a third of that is Python's own, during which
    other threads wait, and it is then spent once for several fields.

    Args:
        blobs: one for each field.
        flow, visible: contiguous arrays to write to, one for each field.

    Raises:
        DamagedField: bytes that are not, or no longer, a flow field.
        ValueError: no such room for one.
    """
    opened = [unseal(blob) for blob in blobs]
    for (header, _, _), *rooms in zip(opened, flow, visible, strict=True):
        _check_room(header.size, *rooms)
    if not opened:
        return []
    at_once = max(1, _AT_ONCE // visible[0].size)
    for start in range(0, len(opened), at_once):
        some = slice(start, start + at_once)
        _decode(opened[some], flow[some], visible[some])
    return [header for header, _, _ in opened]


def _check_room(size: tuple[int, int], flow: npt.NDArray[Any], visible: npt.NDArray[Any]) -> None:
    found = [(x.dtype, x.shape, x.flags.c_contiguous) for x in (flow, visible)]
    if found != [(np.float32, (2, *size), True), (np.bool_, size, True)]:
        raise ValueError(
            f"a field of {size[0]}x{size[1]} goes into contiguous float32 [2, h, w] and bool "
            f"[h, w], got (dtype, shape, contiguous) {found}"
        )


def _decode(
    opened: Sequence[Opened],
    flow: Sequence[npt.NDArray[np.float32]],
    visible: Sequence[npt.NDArray[np.bool_]],
) -> None:
    """Fields of one size."""
    parts = [parts_of(header.size, magic, frames) for header, magic, frames in opened]
    headers, layouts, _ = zip(*opened, strict=True)
    codes, escapes, bits = zip(*parts, strict=True)
    for seen, packed in zip(visible, bits, strict=True):
        seen.ravel()[:] = np.unpackbits(packed, count=seen.size).view(np.bool_)
    if {*layouts} == {THREE_SCALES}:
        unpack_scales(np.stack(codes), escapes, [header.step_px for header in headers], flow)
        return
    for header, magic, part, rest, room in zip(headers, layouts, codes, escapes, flow, strict=True):
        if magic == ONE_SCALE:
            room[:] = unpack(part[None], [rest], header.size)[0] * np.float32(header.step_px)
        else:
            unpack_scales(part[None], [rest], [header.step_px], [room])


def check_field(blob: bytes) -> FieldHeader:
    """The header of a field that `decode_field` will decode; the flow itself is not made.

    Raises:
        DamagedField: the bytes are not, or no longer, a flow field.
    """
    header, magic, frames = unseal(blob)
    parts_of(header.size, magic, frames)
    return header


def parts_of(
    size: tuple[int, int], magic: bytes, frames: tuple[memoryview, memoryview, memoryview]
) -> Parts:
    """Codes, escapes and visibility, each as large as a field of `size` has it.

    Raises:
        DamagedField: they are not.
    """
    of_codes, of_bits = packed_sizes(size)
    codes = _decompress(frames[0], of_codes if magic == ONE_SCALE else code_bytes(size), "codes")
    of_escapes = 8 * int(np.count_nonzero(codes == ESCAPE))
    escapes = _decompress(frames[1], of_escapes, "escapes")
    return codes, escapes, _decompress(frames[2], of_bits, "visibility")


def _decompress(frame: memoryview, size: int, part: str) -> UInt8[np.ndarray, " size"]:
    """The `size` bytes that a zstd frame holds; it is asked for its size before it is expanded."""
    try:
        stated = zstandard.get_frame_parameters(frame).content_size
        if stated != size:
            raise ValueError(f"{stated} bytes of {part}, its size and codes make it {size}")
        content = _decompressor().decompress(frame)
    except (zstandard.ZstdError, ValueError) as error:
        raise DamagedField(f"damaged flow field: {error}") from error
    if len(content) != size:  # a frame that zstd skips states a size and gives nothing
        raise DamagedField(f"damaged flow field: {len(content)} bytes of {part}, not {size}")
    return np.frombuffer(content, np.uint8)


def _decompressor() -> zstandard.ZstdDecompressor:
    if not hasattr(_held, "decompressor"):
        _held.decompressor = zstandard.ZstdDecompressor()
    found: zstandard.ZstdDecompressor = _held.decompressor
    return found


def _check(flow: npt.NDArray[Any], visible: npt.NDArray[Any]) -> None:
    if flow.ndim != 3 or flow.shape[0] != 2 or flow.dtype != np.float32:
        raise ValueError(f"flow must be float32 [2, h, w], got {flow.dtype} {flow.shape}")
    if visible.shape != flow.shape[1:] or visible.dtype != np.bool_:
        raise ValueError(
            f"visible must be bool {flow.shape[1:]}, got {visible.dtype} {visible.shape}"
        )
    if not 0 < visible.size <= MAX_PIXELS:
        raise ValueError(f"a field holds 1 to {MAX_PIXELS} pixels, got {visible.shape}")
    if not np.isfinite(flow).all():
        count = np.count_nonzero(~np.isfinite(flow))
        raise ValueError(f"flow has {count} components that are not finite; estimate it again")
