"""Shot boundaries with PySceneDetect's detectors, streaming."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from jaxtyping import UInt8

if TYPE_CHECKING:
    from scenedetect.detector import SceneDetector

Thumb = UInt8[np.ndarray, "h w 3"]
Detector = Literal["adaptive", "content", "none"]
DETECTORS: tuple[str, ...] = get_args(Detector)

# `benchmarks/shots.py` compares these with the library's own defaults. Luma alone finds cuts in
# grey and coloured film alike; the mean over hue, saturation and luma misses the former, and the
# hue of dark pictures is noise.
_ADAPTIVE = {"adaptive_threshold": 2.5, "min_content_val": 20.0, "window_width": 3}
_CONTENT = {"threshold": 50.0}
_FLASH_FRAMES = 3
_FLASH_DIFFERENCE = 20.0  # grey levels, mean over a picture
_PAD = 3  # the adaptive detector judges a frame when it has seen this many on both sides


def find_cuts(pictures: Iterable[Thumb], detector: Detector) -> list[int]:
    """Numbers of the first frames of new shots, in order; holds a few pictures at a time.

    Args:
        pictures: BGR, all of one size; about 64 pixels high is best.
    """
    if detector == "none":
        deque(pictures, maxlen=0)
        return []
    from scenedetect.detectors import AdaptiveDetector, ContentDetector

    if detector == "adaptive":
        return cuts_of(pictures, AdaptiveDetector(min_scene_len=0, luma_only=True, **_ADAPTIVE))
    return cuts_of(pictures, ContentDetector(min_scene_len=0, luma_only=True, **_CONTENT))


def cuts_of(pictures: Iterable[Thumb], judge: "SceneDetector") -> list[int]:
    """As `find_cuts`, by any detector that looks no more than three frames ahead.

    A flash is no cut: of two cuts at most three frames apart, where the picture after the second
    is like the picture before the first, neither counts.
    """
    from scenedetect.common import FrameTimecode

    cuts: list[int] = []
    before: np.ndarray | None = None  # the last cut
    recent: deque[np.ndarray] = deque(maxlen=_PAD + 2)
    for number, picture in enumerate(_padded(pictures)):
        recent.append(picture)
        for cut in judge.process_frame(FrameTimecode(number, fps=1.0), picture):
            at = cut.frame_num - number - 1  # place in `recent`, from its end
            close = bool(cuts) and cut.frame_num - cuts[-1] <= _FLASH_FRAMES
            if before is not None and close and _alike(before, recent[at]):
                cuts.pop()
            else:
                before = recent[at - 1]
                cuts.append(cut.frame_num)
    return [cut - _PAD for cut in cuts]


def _padded(pictures: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The pictures with the first and the last repeated, so that cuts near the ends are judged."""
    pictures = iter(pictures)
    picture = next(pictures, None)
    if picture is None:
        return
    yield from [picture] * (_PAD + 1)
    for picture in pictures:
        yield picture
    yield from [picture] * _PAD


def _alike(one: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.abs(one.astype(np.int16) - other).mean() < _FLASH_DIFFERENCE)


def as_shots(cuts: Sequence[int], frames: int) -> tuple[range, ...]:
    """Half-open ranges of frame numbers between cuts; together all `frames` frames."""
    borders = sorted({0, frames, *cuts})
    return tuple(range(start, stop) for start, stop in pairwise(borders))
