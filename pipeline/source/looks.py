"""What the frames of a video look like, from the small pictures that the scan sees anyway."""

from array import array
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import UInt8

from pipeline.records import Video
from shards import Clip

_BLACK = 24  # the brightest grey level of a black bar; compression brightens it
_STILL = 2.0  # grey levels by which 4×4 pixels of a small picture differ from noise alone
_HASHED = 32  # pixels in height and width of what is hashed


class Looks:
    """Collects 26 bytes a frame; answers for clips.

    Frames are given in order of display, none left out.
    """

    def __init__(self) -> None:
        self._hashes = array("Q")
        self._bars = array("f")  # of each frame four, see `_bars`
        self._moved = bytearray()
        self._interlaced = bytearray()
        self._before: np.ndarray | None = None

    def add(self, picture: UInt8[np.ndarray, "h w 3"], interlaced: bool) -> None:
        """One frame as a BGR picture, all of one size."""
        grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
        coarse = cv2.resize(
            grey.astype(np.float32), None, fx=1 / 4, fy=1 / 4, interpolation=cv2.INTER_AREA
        )
        before, self._before = self._before, coarse
        self._moved.append(before is None or bool(np.abs(coarse - before).max() > _STILL))
        self._hashes.append(perceptual_hash(grey))
        self._bars.extend(_bars(grey))
        self._interlaced.append(interlaced)

    def describe(self, clip: Clip, video: Video) -> Clip:
        """The clip with the columns that say what it looks like."""
        chosen = np.array(clip.numbers)
        bars = np.frombuffer(self._bars, np.float32).reshape(-1, 4)[chosen].min(axis=0)
        top, bottom, left, right = bars.tolist()
        seen = max(0.0, 1 - top - bottom) * max(0.0, 1 - left - right)
        return replace(
            clip,
            codec=video.codec,
            transfer=video.transfer,
            interlaced=any(self._interlaced[number] for number in clip.numbers),
            letterbox=round(1 - seen, 3),
            static=self._share_still(clip.numbers),
            phash=f"{self._hashes[clip.numbers[len(clip.numbers) // 2]]:016x}",
        )

    def _share_still(self, numbers: Sequence[int]) -> float:
        moves = np.cumsum(np.frombuffer(self._moved, np.uint8), dtype=np.int64)[list(numbers)]
        return round(float((np.diff(moves) == 0).mean()), 3)


def perceptual_hash(grey: UInt8[np.ndarray, "h w"]) -> int:
    """64 bits, most of them equal for pictures that look alike; the pHash of `imagehash`.

    The low 8×8 frequencies of the picture's cosine transform, each against their median, row by row
    from the highest bit.
    """
    small = cv2.resize(grey, (_HASHED, _HASHED), interpolation=cv2.INTER_AREA)
    low = cv2.dct(small.astype(np.float32))[:8, :8]
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


def _bars(grey: UInt8[np.ndarray, "h w"]) -> tuple[float, float, float, float]:
    """Shares of the sides that are black: rows above and below, columns to the left and right."""
    bright = np.greater(grey, _BLACK)
    return *_dark_ends(bright.any(axis=1)), *_dark_ends(bright.any(axis=0))


def _dark_ends(bright: np.ndarray) -> tuple[float, float]:
    lit = np.flatnonzero(bright)
    if len(lit) == 0:
        return 1.0, 1.0
    return int(lit[0]) / len(bright), (len(bright) - 1 - int(lit[-1])) / len(bright)
