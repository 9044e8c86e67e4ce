"""Clips side by side as one video, to see what a model would."""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from jaxtyping import UInt8

from shards import encode_clip

_FPS = Fraction(8)
_GAP = 4  # pixels between clips


def grid_video(clips: Sequence[UInt8[np.ndarray, "_ 3 h w"]]) -> bytes:
    """An mp4 of clips of one size in a grid; shorter ones stand still at their end.

    Raises:
        ValueError: there are none.
    """
    if not clips:
        raise ValueError("no clips to show")
    columns = math.ceil(math.sqrt(len(clips)))
    rows = math.ceil(len(clips) / columns)
    _, _, height, width = clips[0].shape
    length = max(map(len, clips))
    canvas = np.full((length, 3, rows * (height + _GAP), columns * (width + _GAP)), 255, np.uint8)
    for number, clip in enumerate(clips):
        top, left = (number // columns) * (height + _GAP), (number % columns) * (width + _GAP)
        shown = clip[np.minimum(np.arange(length), len(clip) - 1)]
        canvas[:, :, top : top + height, left : left + width] = shown
    return encode_clip(canvas, _FPS)
