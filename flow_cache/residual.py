"""Rounded flow to small bytes and back: prediction, 2-bit codes and escapes.

Of quantised real flow nine residuals in ten are -1, 0 or 1. These become the codes 0, 1, 2;
code 3 marks an escape, whose residual is stored apart. The codes of four rows share a byte, so
that zstd sees patterns of four neighbours as one symbol.
"""

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

UInt8s = npt.NDArray[np.uint8]
Int16s = npt.NDArray[np.int16]

ESCAPE = 3
BIAS = 128  # added to a residual, so that its low byte rarely needs the high one
MAX_PIXELS = 2**23  # keeps an integral image of bytes inside int32; a 4K frame fits


def quantise(flow: npt.NDArray[np.float32], step: float) -> tuple[Int16s, int]:
    """Components as whole steps, and how many lay outside the 16-bit range and were clipped.

    `step` is a power of two, so that scaling is exact and only the rounding is not.
    """
    with np.errstate(over="ignore"):  # towards infinity, which is out of range all the same
        steps = np.rint(flow * np.float32(1 / step))
    limits = np.iinfo(np.int16)
    clipped = np.clip(steps, limits.min, limits.max)
    return clipped.astype(np.int16), int(np.count_nonzero(clipped != steps))


def pack(steps: Int16s) -> tuple[UInt8s, UInt8s]:
    """Codes [rows / 4, w] and escapes [2, n] (low bytes, high bytes) of steps int16 [2, h, w].

    A residual is the step less left + up - up-left, modulo 2^16, zero beyond the border.
    """
    height, width = steps.shape[1:]
    rows = np.diff(steps, axis=-2, prepend=np.int16(0))
    residuals = np.diff(rows, axis=-1, prepend=np.int16(0)).reshape(2 * height, width)
    residuals = np.pad(residuals, ((0, -2 * height % 4), (0, 0)))
    symbols = np.minimum((residuals + np.int16(1)).view(np.uint16), ESCAPE).astype(np.uint8)
    codes = symbols[0::4] | symbols[1::4] << 2 | symbols[2::4] << 4 | symbols[3::4] << 6
    biased = (residuals[symbols == ESCAPE] + np.int16(BIAS)).view(np.uint16)
    return codes.astype(np.uint8), np.stack((biased & 255, biased >> 8)).astype(np.uint8)


def unpack(codes: UInt8s, escapes: UInt8s, height: int, width: int) -> Int16s:
    """The steps int16 [2, h, w] that `pack` took.

    The residuals' bytes are summed up by OpenCV's vectorised integral image, which takes nothing
    but bytes; what their bias adds at (x, y) is taken off afterwards.

    Raises:
        ValueError: sizes that cannot belong together.
    """
    packed_rows = -(-2 * height // 4)
    if codes.size != packed_rows * width:
        raise ValueError(f"{codes.size} bytes of codes for a field of {height}x{width}")
    codes = codes.reshape(packed_rows, width)
    low = np.empty((packed_rows, 4, width), np.uint8)
    for place in range(4):
        np.bitwise_and(codes >> 2 * place, 3, out=low[:, place])
    low = low.reshape(-1, width)[: 2 * height]
    at = np.flatnonzero(low == ESCAPE)
    if escapes.size != 2 * at.size:
        raise ValueError(f"{escapes.size} bytes for {at.size} escapes")
    low += BIAS - 1
    low.ravel()[at], high_bytes = escapes.reshape(2, -1)
    steps = _integrate(low, height, width)
    steps -= _integrated_bias(height, width)
    if high_bytes.any():
        high = np.zeros_like(low)
        high.ravel()[at] = high_bytes
        steps += _integrate(high, height, width) << 8
    return steps


def _integrate(residuals: UInt8s, height: int, width: int) -> Int16s:
    """Sums over all pixels above and to the left, modulo 2^16: int16 [2, h, w]."""
    steps = np.empty((2, height, width), np.int16)
    for component, plane in zip(steps, residuals.reshape(2, height, width), strict=True):
        component[:] = cv2.integral(plane, sdepth=cv2.CV_32S)[1:, 1:]
    return steps


@lru_cache(maxsize=4)
def _integrated_bias(height: int, width: int) -> Int16s:
    bias = np.multiply.outer(np.arange(1, height + 1), np.arange(1, width + 1)) * BIAS
    return bias.astype(np.int16)
