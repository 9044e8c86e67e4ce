"""Clips side by side as one video or GIF, to see what a model sees, or makes."""

import io
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from shards import encode_clip

FPS = Fraction(8)
_GAP = 4  # pixels between clips

Clip = UInt8[np.ndarray, "_ 3 h w"]


def played_at(fps: float | None) -> Fraction:
    """The rate to show samples at: their own, or one to look at them if they have none."""
    return Fraction(fps).limit_denominator(1001) if fps else FPS


def grid_video(clips: Sequence[Clip], fps: Fraction = FPS) -> bytes:
    """An mp4 of clips of one size in a grid; shorter ones stand still at their end.

    Raises:
        ValueError: there are none.
    """
    return encode_clip(grid(clips), fps)


def grid_gif(clips: Sequence[Clip], fps: Fraction = FPS) -> bytes:
    """The same as a GIF that begins again at its end; its frames have 256 colours each.

    Raises:
        ValueError: there are none.
    """
    pictures = [Image.fromarray(frame) for frame in grid(clips).transpose(0, 2, 3, 1)]
    buffer = io.BytesIO()
    milliseconds = round(1000 / fps)
    pictures[0].save(
        buffer, "GIF", save_all=True, append_images=pictures[1:], duration=milliseconds, loop=0
    )
    return buffer.getvalue()


def grid(clips: Sequence[Clip]) -> UInt8[np.ndarray, "t 3 y x"]:
    """Clips of one size beside each other on white."""
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
    return canvas
