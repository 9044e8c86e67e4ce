"""Rounded flow to small bytes and back: prediction, 2-bit codes and escapes.

Of the quantised flow of real video, nineteen prediction residuals in twenty are -1, 0 or 1. They
become the codes 0, 1, 2, and the codes of four rows share a byte: zstd then sees the pattern of
four neighbours as one symbol. Where one of the four does not fit, the byte is an escape and the
four residuals are stored apart.
"""

from functools import lru_cache

import cv2
import numpy as np
from jaxtyping import Float32, Int16, Int32, Int64, UInt8

ESCAPE = 255  # four times the code 3, which nothing else uses
BIAS = 128  # added to a residual, so that its low byte rarely needs the high one
_LOW_BYTES = np.array(  # of a code's four residuals
    [[(code >> 2 * place & 3) - 1 + BIAS for place in range(4)] for code in range(256)], np.uint8
).view(np.int32)
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


def packed_sizes(size: tuple[int, int]) -> tuple[int, int]:
    """Bytes of the codes, and of one bit per pixel, of a field of (height, width)."""
    height, width = size
    return -(-2 * height // 4) * width, -(-height * width // 8)


def unpack(
    codes: UInt8[np.ndarray, " codes"],
    escapes: UInt8[np.ndarray, " escapes"],
    size: tuple[int, int],
    step: float,
) -> Float32[np.ndarray, "2 h w"]:
    """Flow from what `pack` made of the residuals of its steps.

    Residuals are summed up by OpenCV's integral image, which is vectorised for bytes and nothing
    else: low bytes first, high bytes only where a field has any. One component after the other
    keeps the work inside the processor's cache.

    Raises:
        ValueError: sizes that cannot belong together.
    """
    low, high = residual_bytes(codes, escapes, *size)
    flow = np.empty((2, *size), np.float32)
    for number, component in enumerate(flow):
        steps = _integrate(low[number])
        steps -= _integrated_bias(*size)
        if high is not None:
            steps += _integrate(high[number]) << 8
        component[:] = steps
        component *= step
    return flow


def residual_bytes(
    codes: UInt8[np.ndarray, " codes"],
    escapes: UInt8[np.ndarray, " escapes"],
    height: int,
    width: int,
) -> tuple[UInt8[np.ndarray, "2 h w"], UInt8[np.ndarray, "2 h w"] | None]:
    """Low and high bytes of the biased residuals; None for high bytes that are all 0."""
    groups = -(-2 * height // 4)
    if codes.size != packed_sizes((height, width))[0]:
        raise ValueError(f"{codes.size} bytes of codes for a field of {height}x{width}")
    at = np.flatnonzero(codes == ESCAPE)
    if escapes.size != 8 * at.size:
        raise ValueError(f"{escapes.size} bytes for {at.size} escapes")
    of_low, of_high = escapes.reshape(2, -1, 4)
    low = cv2.LUT(codes.reshape(groups, width), _LOW_BYTES)
    high = np.zeros_like(low) if of_high.any() else None
    return (
        _in_rows(low, at, of_low, height),
        None if high is None else _in_rows(high, at, of_high, height),
    )


def _in_rows(
    fours: Int32[np.ndarray, "groups w"],
    at: Int64[np.ndarray, " escapes"],
    escapes: UInt8[np.ndarray, "escapes 4"],
    height: int,
) -> UInt8[np.ndarray, "2 h w"]:
    """The bytes of groups of four rows, with the escapes put in, row by row."""
    groups, width = fours.shape
    fours.ravel()[at] = escapes.view(np.int32).ravel()
    rows = np.empty((groups, 4, width), np.uint8)
    rows[:] = fours.view(np.uint8).reshape(groups, width, 4).transpose(0, 2, 1)
    return rows.reshape(-1, width)[: 2 * height].reshape(2, height, width)


def _integrate(plane: UInt8[np.ndarray, "h w"]) -> Int16[np.ndarray, "h w"]:
    """Sums over everything above and to the left, modulo 2^16."""
    sums = cv2.integral(plane, sdepth=cv2.CV_32S)
    return sums[1:, 1:].astype(np.int16)


@lru_cache(maxsize=4)
def _integrated_bias(height: int, width: int) -> Int16[np.ndarray, "h w"]:
    rows, columns = (np.arange(1, side + 1).astype(np.int16) for side in (height, width))
    return np.multiply.outer(rows * np.int16(BIAS), columns)  # modulo 2^16, like what it is of
