"""What a field's bytes say about it, and how they are sealed and opened.

Nothing is believed of bytes to be read: whatever the header says is held against its rule, and
against the length of the bytes, before anyone asks for memory.
"""

import math
import struct
import zlib
from dataclasses import dataclass
from typing import Any

from flow_cache.coding.residual import MAX_PIXELS
from flow_cache.spec import Pair

# Magic and CRC-32 of all that follows. Then pair, height, width, maximum error, step, saturated,
# spec digest, and the sizes of the three zstd frames that follow: codes, escapes, visibility.
_START = struct.Struct("<4sI")
_PAIR = struct.Struct("<2I")
ONE_SCALE, THREE_SCALES = b"FXF1", b"FXF2"  # how the flow is coded; the second is what is written
_HEADS = {
    ONE_SCALE: struct.Struct("<4I2dI32s3I"),
    THREE_SCALES: struct.Struct("<4I2dI32s3Id"),  # and at the end the round trip
}
LAST_FRAME = 2**32 - 1  # number that a pair can name
SMALLEST_PX, LARGEST_PX = 2.0**-20, 2.0**10  # maximum errors that a field can have
Sizes = tuple[int, int, int]  # of the three frames, bytes


class DamagedField(ValueError):
    """Bytes that are not, or no longer, a flow field."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldHeader:
    """What a field's bytes say about it.

    Attributes:
        pair: (source, target) frame numbers within the clip.
        size: (height, width).
        max_error_px: stated bound on the error of a component.
        step_px: quantisation step, a power of two not above twice `max_error_px`.
        saturated: components that lay outside the range of steps and were clipped to it; the
            bound does not hold for these.
        spec_digest: 64 hex digits, the `FlowSpec.field_digest` it was made under.
        round_trip_px: mean length of the way there and back by the estimates, over the visible
            pixels; None where it is not known.
    """

    pair: Pair
    size: tuple[int, int]
    max_error_px: float
    step_px: float
    saturated: int
    spec_digest: str
    round_trip_px: float | None


def exact_step(max_error_px: float) -> float:
    """The largest power of two that is not above 2 * max_error_px.

    Raises:
        ValueError: max_error_px outside [2^-20, 2^10] pixels.
    """
    if not SMALLEST_PX <= max_error_px <= LARGEST_PX:
        raise ValueError(f"max_error_px must lie from 2^-20 to 2^10 pixels, got {max_error_px}")
    return math.ldexp(1.0, math.frexp(2 * max_error_px)[1] - 1)


def seal(header: FieldHeader, frames: tuple[bytes, bytes, bytes]) -> bytes:
    """A field's bytes.

    Raises:
        ValueError: a frame number outside [0, 2^32), a digest that is none.
    """
    _check_pair(header.pair)
    digest = bytes.fromhex(header.spec_digest)
    if len(digest) != 32:
        raise ValueError(f"spec_digest must be 64 hex digits, got {header.spec_digest!r}")
    head = _HEADS[THREE_SCALES].pack(
        *header.pair,
        *header.size,
        header.max_error_px,
        header.step_px,
        header.saturated,
        digest,
        *map(len, frames),
        math.nan if header.round_trip_px is None else header.round_trip_px,
    )
    return _sealed(THREE_SCALES, head + b"".join(frames))


def _sealed(magic: bytes, body: bytes) -> bytes:
    return _START.pack(magic, zlib.crc32(body)) + body


def unseal(blob: bytes) -> tuple[FieldHeader, bytes, tuple[memoryview, memoryview, memoryview]]:
    """Header, magic and the three zstd frames of checked bytes.

    Raises:
        DamagedField: the bytes are not, or no longer, a flow field.
    """
    magic = bytes(blob[:4])
    if magic not in _HEADS:
        raise DamagedField(f"not a flow field: starts with {magic!r}, expected FXF2 or FXF1")
    start = _START.size + _HEADS[magic].size
    if len(blob) < start:
        raise DamagedField(f"not a flow field: only {len(blob)} bytes")
    if zlib.crc32(memoryview(blob)[_START.size :]) != _START.unpack_from(blob)[1]:
        raise DamagedField("damaged flow field: checksum does not match")
    words = _HEADS[magic].unpack_from(blob, _START.size)
    a, b, c = words[8:11]
    if a + b + c != len(blob) - start:
        raise DamagedField(f"damaged flow field: {len(blob)} bytes do not hold parts of {a, b, c}")
    view = memoryview(blob)
    frames = view[start : start + a], view[start + a : start + a + b], view[start + a + b :]
    return _header(words), magic, frames


def _header(words: tuple[Any, ...]) -> FieldHeader:
    source, target, height, width, max_error, step, saturated, digest = words[:8]
    round_trip = words[11] if len(words) > 11 else math.nan
    if not 0 < height * width <= MAX_PIXELS:
        raise DamagedField(f"damaged flow field: size {height}x{width}")
    if not _is_bounded(max_error, step) or saturated > 2 * height * width:
        raise DamagedField(
            f"damaged flow field: steps of {step} px for an error of {max_error} px, "
            f"{saturated} components saturated of a field of {height}x{width}"
        )
    if round_trip < 0 or math.isinf(round_trip):
        raise DamagedField(f"damaged flow field: a round trip of {round_trip} px")
    return FieldHeader(
        pair=(source, target),
        size=(height, width),
        max_error_px=max_error,
        step_px=step,
        saturated=saturated,
        spec_digest=digest.hex(),
        round_trip_px=None if math.isnan(round_trip) else round_trip,
    )


def _is_bounded(max_error_px: float, step_px: float) -> bool:
    """Whether this is the step of this bound; False for a bound that no field has, and for NaN."""
    try:
        return step_px == exact_step(max_error_px)
    except ValueError:
        return False


def read_header(blob: bytes) -> FieldHeader:
    """What a field says about itself; the checksum is verified, nothing is decoded.

    Raises:
        DamagedField: the bytes are not, or no longer, a flow field.
    """
    return unseal(blob)[0]


def relabel(blob: bytes, pair: Pair) -> bytes:
    """The same field under other frame numbers, for a clip that begins elsewhere in its source.

    Raises:
        DamagedField: the bytes are not a flow field.
        ValueError: a frame number outside [0, 2^32).
    """
    _, magic, _ = unseal(blob)
    _check_pair(pair)
    body = bytearray(blob[_START.size :])
    _PAIR.pack_into(body, 0, *pair)
    return _sealed(magic, bytes(body))


def _check_pair(pair: Pair) -> None:
    if not all(0 <= number <= LAST_FRAME for number in pair):
        raise ValueError(
            f"pair {tuple(pair)}: a field numbers the frames of its clip from 0 to {LAST_FRAME}; "
            "count from the clip's first frame"
        )
