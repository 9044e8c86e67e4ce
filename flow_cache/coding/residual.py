"""Rounded flow to small bytes and back: prediction, 2-bit codes and escapes.

Of the quantised flow of real video, nineteen prediction residuals in twenty are -1, 0 or 1. They
become the codes 0, 1, 2, and the codes of four rows share a byte: zstd then sees the pattern of
four neighbours as one symbol. Where one of the four does not fit, the byte is an escape and the
four residuals are stored apart.
"""

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Int16, Int64, UInt8

ESCAPE = 255  # four times the code 3, which nothing else uses
BIAS = 128  # added to a residual, so that its low byte rarely needs the high one
Escapes = UInt8[np.ndarray, " _"]  # of one field
Size = tuple[int, int]  # (height, width)
MAX_PIXELS = 2**23  # keeps an integral image of bytes inside int32; a 4K frame fits


def predict(steps: Int16[np.ndarray, "2 h w"]) -> Int16[np.ndarray, "2 h w"]:
    """Residuals: the step less left + up - up-left, modulo 2^16, all zero beyond the border."""
    vertical = steps.copy()
    vertical[:, 1:] -= steps[:, :-1]
    residuals = vertical.copy()
    residuals[..., 1:] -= vertical[..., :-1]
    return residuals


def pack(
    residuals: Int16[np.ndarray, "2 h w"],
) -> tuple[UInt8[np.ndarray, "groups w"], UInt8[np.ndarray, "2 escapes 4"]]:
    """Codes of groups of four rows, and escapes: all low bytes, then all high bytes."""
    height, width = residuals.shape[1:]
    groups = np.zeros((-(-2 * height // 4), 4, width), np.int16)
    groups.reshape(-1, width)[: 2 * height] = residuals.reshape(-1, width)
    symbols = (groups + np.int16(1)).view(np.uint16)  # 0, 1, 2, or more where it does not fit
    escaped = symbols.max(1) > 2
    first, second, third, fourth = symbols.astype(np.uint8).transpose(1, 0, 2)
    codes: UInt8[np.ndarray, "groups w"] = first | second << 2 | third << 4 | fourth << 6
    codes[escaped] = ESCAPE
    biased = (groups.transpose(0, 2, 1)[escaped] + np.int16(BIAS)).view(np.uint16)
    return codes, np.stack((biased & 255, biased >> 8)).astype(np.uint8)


def packed_sizes(size: Size) -> tuple[int, int]:
    """Bytes of the codes, and of one bit per pixel, of a field of (height, width)."""
    height, width = size
    return -(-2 * height // 4) * width, -(-height * width // 8)


def unpack(
    codes: UInt8[np.ndarray, "n codes"], escapes: Sequence[Escapes], size: Size
) -> Int16[np.ndarray, "n 2 h w"]:
    """The steps whose residuals `pack` packed, of n fields of (height, width).

    Residuals are summed up by OpenCV's integral image, which is vectorised for bytes and nothing
    else: low bytes first, high bytes only where a field has any.

    Raises:
        ValueError: sizes that cannot belong together.
    """
    low, high = residual_bytes(codes, escapes, size)
    steps = _integrate(low)
    steps -= _integrated_bias(*size)
    if high is not None:
        steps += _integrate(high) << 8
    return steps


def residual_bytes(
    codes: UInt8[np.ndarray, "n codes"], escapes: Sequence[Escapes], size: Size
) -> tuple[UInt8[np.ndarray, "n 2 h w"], UInt8[np.ndarray, "n 2 h w"] | None]:
    """Low and high bytes of the biased residuals; None for high bytes that are all 0.

    Shifts of all codes at once are vectorised, a table of what each code stands for is not.
    """
    count, (height, width) = len(codes), size
    groups = -(-2 * height // 4)
    if codes.shape[1] != packed_sizes(size)[0]:
        raise ValueError(f"{codes.shape[1]} bytes of codes for a field of {height}x{width}")
    fours = codes.reshape(count, groups, width)
    low = np.empty((count, groups, 4, width), np.uint8)
    for place in range(4):
        np.right_shift(fours, 2 * place, out=low[:, :, place])
    low &= 3
    low += BIAS - 1
    at = np.flatnonzero(codes == ESCAPE)
    here = np.bincount(at // codes.shape[1], minlength=count)
    if [8 * n for n in here.tolist()] != [part.size for part in escapes]:
        found = sum(part.size for part in escapes)
        raise ValueError(f"{found} bytes for {at.size} escapes")
    if not at.size:
        return _in_rows(low, size), None
    of_low, of_high = np.concatenate([part.reshape(2, -1, 4) for part in escapes], axis=1)
    _put(low, at, of_low)
    if not of_high.any():
        return _in_rows(low, size), None
    high = np.zeros_like(low)
    _put(high, at, of_high)
    return _in_rows(low, size), _in_rows(high, size)


def _put(
    fours: UInt8[np.ndarray, "n groups 4 w"],
    at: Int64[np.ndarray, " escapes"],
    escapes: UInt8[np.ndarray, "escapes 4"],
) -> None:
    """Overwrite some groups, by their number among all codes."""
    width = fours.shape[-1]
    first = at + 3 * width * (at // width)
    flat = fours.ravel()  # a view
    for place in range(4):
        flat[first + place * width] = escapes[:, place]


def _in_rows(fours: UInt8[np.ndarray, "n groups 4 w"], size: Size) -> UInt8[np.ndarray, "n 2 h w"]:
    """Without the rows that fill up the last group."""
    rows = fours.reshape(len(fours), -1, size[1])[:, : 2 * size[0]]
    return rows.reshape(len(fours), 2, *size)


def _integrate(planes: UInt8[np.ndarray, "n 2 h w"]) -> Int16[np.ndarray, "n 2 h w"]:
    """Sums over everything above and to the left in each plane, modulo 2^16."""
    height, width = planes.shape[2:]
    sums = np.empty((2 * len(planes), height, width), np.int16)
    for plane, total in zip(planes.reshape(sums.shape), sums, strict=True):
        total[:] = cv2.integral(plane, sdepth=cv2.CV_32S)[1:, 1:]
    return sums.reshape(planes.shape)


@lru_cache(maxsize=4)
def _integrated_bias(height: int, width: int) -> Int16[np.ndarray, "h w"]:
    rows, columns = (np.arange(1, side + 1).astype(np.int16) for side in (height, width))
    return np.multiply.outer(rows * np.int16(BIAS), columns)  # modulo 2^16, like what it is of
