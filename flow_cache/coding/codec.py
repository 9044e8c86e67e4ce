"""One flow field to self-describing bytes and back, with a stated maximum error.

A component is rounded to whole steps. The step is a power of two, not above twice the maximum
error, so that rounding is the only inexact operation and cannot exceed the bound. How the steps
become few bytes is told in `flow_cache.coding.residual`, the layout in docs/flow-format.md.

A clip's flow member is the concatenation of its fields in the order of `level_pairs`.

Nothing is believed of bytes to be read: each part must state the size that the header's geometry
gives it before memory is asked for, so that no field costs more than one of its size does.
"""

import math
import struct
import zlib
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import zstandard
from jaxtyping import Bool, Float32, UInt8
from torch import Tensor

from flow_cache.coding.residual import ESCAPE, MAX_PIXELS, pack, packed_sizes, quantise, unpack
from flow_cache.field import FlowField
from flow_cache.spec import Pair

MAGIC = b"FXF1"
# After magic and CRC-32: pair, height, width, maximum error, step, saturated, spec digest, and
# the sizes of the three zstd frames that follow: codes, escapes, visibility.
_START = struct.Struct("<4sI")
_HEAD = struct.Struct("<4I2dI32s3I")
_PAIR = struct.Struct("<2I")
LAST_FRAME = 2**32 - 1  # number that a pair can name

Parts = tuple[
    UInt8[np.ndarray, " codes"], UInt8[np.ndarray, " escapes"], UInt8[np.ndarray, " bits"]
]


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldHeader:
    """What a field's bytes say about it.

    Attributes:
        pair: (source, target) frame numbers within the clip.
        size: (height, width).
        max_error_px: stated bound on the error of a component.
        step_px: quantisation step, a power of two not above twice `max_error_px`.
        saturated: components that lay outside the 16-bit range of steps and were clipped to it;
            the bound does not hold for these.
        spec_digest: 64 hex digits, the `FlowSpec.field_digest` it was made under.
    """

    pair: Pair
    size: tuple[int, int]
    max_error_px: float
    step_px: float
    saturated: int
    spec_digest: str


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


def exact_step(max_error_px: float) -> float:
    """The largest power of two that is not above 2 * max_error_px.

    Raises:
        ValueError: max_error_px outside [2^-20, 2^10] pixels.
    """
    if not 2.0**-20 <= max_error_px <= 2.0**10:
        raise ValueError(f"max_error_px must lie from 2^-20 to 2^10 pixels, got {max_error_px}")
    return math.ldexp(1.0, math.frexp(2 * max_error_px)[1] - 1)


def encode_field(
    flow: Float32[np.ndarray | Tensor, "2 h w"],
    visible: Bool[np.ndarray | Tensor, "h w"],
    *,
    pair: Pair,
    max_error_px: float,
    spec_digest: str,
) -> bytes:
    """One field as bytes.

    Args:
        flow: pixels, on the CPU.
        visible: True = visible in the target frame.
        pair: (source, target) frame numbers within the clip.
        max_error_px: no component changes by more, save those that saturate: at 1/32 px these
            lie beyond 2,048 px.
        spec_digest: 64 hex digits, `FlowSpec.field_digest`.

    Raises:
        ValueError: wrong shape or dtype, flow that is not finite, a frame above 2^23 pixels, a
            frame number outside [0, 2^32).
    """
    flow, visible = np.asarray(flow), np.asarray(visible)
    _check(flow, visible)
    _check_pair(pair)
    step = exact_step(max_error_px)
    steps, saturated = quantise(flow, step)
    compress = zstandard.ZstdCompressor(level=9).compress
    frames = [compress(part.tobytes()) for part in (*pack(steps), np.packbits(visible))]
    digest = bytes.fromhex(spec_digest)
    if len(digest) != 32:
        raise ValueError(f"spec_digest must be 64 hex digits, got {spec_digest!r}")
    sizes = map(len, frames)
    head = _HEAD.pack(*pair, *visible.shape, max_error_px, step, saturated, digest, *sizes)
    return _seal(head + b"".join(frames))


def as_stored(
    flow: Float32[np.ndarray | Tensor, "2 h w"], max_error_px: float
) -> Float32[Tensor, "2 h w"]:
    """The flow that `decode_field` gives of what `encode_field` makes of this one."""
    step = exact_step(max_error_px)
    stored = quantise(np.asarray(flow), step)[0].astype(np.float32)
    stored *= np.float32(step)
    return torch.from_numpy(stored)


def decode_field(blob: bytes) -> DecodedField:
    """The field that `encode_field` wrote, every component within the stated error.

    Raises:
        ValueError: the bytes are not, or no longer, a flow field.
    """
    facts, sizes = _open(blob)
    codes, escapes, bits = _parts(blob, facts["size"], sizes)
    height, width = facts["size"]
    visible = np.unpackbits(bits, count=height * width).view(np.bool_)
    return DecodedField(
        flow=torch.from_numpy(unpack(codes, escapes, (height, width), facts["step_px"])),
        visible=torch.from_numpy(visible).view(height, width),
        **facts,
    )


def check_field(blob: bytes) -> FieldHeader:
    """The header of a field that `decode_field` will decode; the flow itself is not made.

    Raises:
        ValueError: the bytes are not, or no longer, a flow field.
    """
    facts, sizes = _open(blob)
    _parts(blob, facts["size"], sizes)
    return FieldHeader(**facts)


def read_header(blob: bytes) -> FieldHeader:
    """What a field says about itself; the checksum is verified, nothing is decoded.

    Raises:
        ValueError: the bytes are not, or no longer, a flow field.
    """
    return FieldHeader(**_open(blob)[0])


def relabel(blob: bytes, pair: Pair) -> bytes:
    """The same field under other frame numbers, for a clip that begins elsewhere in its source.

    Raises:
        ValueError: the bytes are not a flow field, a frame number outside [0, 2^32).
    """
    _open(blob)
    _check_pair(pair)
    body = bytearray(blob[_START.size :])
    _PAIR.pack_into(body, 0, *pair)
    return _seal(bytes(body))


def _seal(body: bytes) -> bytes:
    return _START.pack(MAGIC, zlib.crc32(body)) + body


def _open(blob: bytes) -> tuple[dict[str, Any], tuple[int, int, int]]:
    """Fields of the header and sizes of the three zstd frames, of checked bytes."""
    if len(blob) < _START.size + _HEAD.size:
        raise ValueError(f"not a flow field: only {len(blob)} bytes")
    magic, crc = _START.unpack_from(blob)
    if magic != MAGIC:
        raise ValueError(f"not a flow field: starts with {magic!r}, expected {MAGIC!r}")
    if zlib.crc32(memoryview(blob)[_START.size :]) != crc:
        raise ValueError("damaged flow field: checksum does not match")
    source, target, height, width, max_error, step, saturated, digest, *sizes = _HEAD.unpack_from(
        blob, _START.size
    )
    if sum(sizes) != len(blob) - _START.size - _HEAD.size:
        raise ValueError(f"damaged flow field: {len(blob)} bytes do not hold parts of {sizes}")
    if not 0 < height * width <= MAX_PIXELS:
        raise ValueError(f"damaged flow field: size {height}x{width}")
    if not _is_bounded(max_error, step) or saturated > 2 * height * width:
        raise ValueError(
            f"damaged flow field: steps of {step} px for an error of {max_error} px, "
            f"{saturated} components saturated of a field of {height}x{width}"
        )
    facts = {
        "pair": (source, target),
        "size": (height, width),
        "max_error_px": max_error,
        "step_px": step,
        "saturated": saturated,
        "spec_digest": digest.hex(),
    }
    return facts, (sizes[0], sizes[1], sizes[2])


def _is_bounded(max_error_px: float, step_px: float) -> bool:
    """Whether this is the step of this bound; False for a bound that no field has, and for NaN."""
    try:
        return step_px == exact_step(max_error_px)
    except ValueError:
        return False


def _parts(blob: bytes, size: tuple[int, int], sizes: tuple[int, int, int]) -> Parts:
    """Codes, escapes and visibility of opened bytes, each as large as a field of `size` has it."""
    first = len(blob) - sum(sizes)
    spans = pairwise(accumulate(sizes, initial=first))
    frames = [memoryview(blob)[start:end] for start, end in spans]
    of_codes, of_bits = packed_sizes(size)
    codes = _decompress(frames[0], of_codes, "codes")
    of_escapes = 8 * int(np.count_nonzero(codes == ESCAPE))
    escapes = _decompress(frames[1], of_escapes, "escapes")
    return codes, escapes, _decompress(frames[2], of_bits, "visibility")


def _decompress(frame: memoryview, size: int, part: str) -> UInt8[np.ndarray, " size"]:
    """The `size` bytes that a zstd frame holds; it is asked for its size before it is expanded."""
    try:
        stated = zstandard.get_frame_parameters(frame).content_size
        if stated != size:
            raise ValueError(f"{stated} bytes of {part}, its size and codes make it {size}")
        content = zstandard.ZstdDecompressor().decompress(frame)
    except (zstandard.ZstdError, ValueError) as error:
        raise ValueError(f"damaged flow field: {error}") from error
    if len(content) != size:  # a frame that zstd skips states a size and gives nothing
        raise ValueError(f"damaged flow field: {len(content)} bytes of {part}, not {size}")
    return np.frombuffer(content, np.uint8)


def _check_pair(pair: Pair) -> None:
    if not all(0 <= number <= LAST_FRAME for number in pair):
        raise ValueError(
            f"pair {tuple(pair)}: a field numbers the frames of its clip from 0 to {LAST_FRAME}; "
            "count from the clip's first frame"
        )


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
