"""Shot boundaries, streaming: our detector, PySceneDetect's, or a learned one."""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np

from pipeline.shots import changes
from pipeline.shots.changes import Thumb

if TYPE_CHECKING:
    from scenedetect.detector import SceneDetector

Detector = Literal["adaptive", "content", "transnetv2", "none"]

# Luma alone finds cuts in grey and coloured film alike; the mean over hue, saturation and luma
# misses the former, and the hue of dark pictures is noise.
_CONTENT_THRESHOLD = 50.0
_FLASH_FRAMES = 3
_FLASH_DIFFERENCE = 20.0  # grey levels, mean over a picture
_PAD = 3  # PySceneDetect's adaptive detector judges a frame when it has seen three on both sides


def find_changes(pictures: Iterable[Thumb], detector: Detector) -> list[range]:
    """Changes of shot in order: an empty range at the first frame after a cut, else those that mix.

    Args:
        pictures: BGR, all of one size; about 64 pixels high is best. Few are held at a time.
        detector: `content` finds hard cuts only.

    Raises:
        UsageError: the detector's package is missing.
    """
    if detector == "none":
        deque(pictures, maxlen=0)
        return []
    if detector == "adaptive":
        return changes.find_changes(pictures)
    if detector == "transnetv2":
        from pipeline.shots import transnet

        return transnet.find_changes(pictures)
    from scenedetect.detectors import ContentDetector

    judge = ContentDetector(threshold=_CONTENT_THRESHOLD, min_scene_len=0, luma_only=True)
    return cuts_of(pictures, judge)


def detector_identity(detector: Detector) -> str:
    """Changes whenever the detector may find other changes in the same pictures.

    Raises:
        UsageError: its package is missing.
    """
    if detector == "transnetv2":
        from pipeline.shots import transnet

        return f"{detector} {transnet.identity()}"
    return f"{detector} {changes.REVISION}" if detector == "adaptive" else detector


def cuts_of(pictures: Iterable[Thumb], judge: "SceneDetector") -> list[range]:
    """As `find_changes`, hard cuts only, by any detector that looks three frames ahead at most.

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
    return [range(cut - _PAD, cut - _PAD) for cut in cuts]


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


def as_shots(changes: Iterable[range], frames: int) -> tuple[range, ...]:
    """Half-open ranges of frame numbers between changes, of `frames` frames, in order.

    Args:
        changes: as `find_changes` gives them, and others; in any order, they may overlap.
    """
    shots, start = [], 0
    for change in sorted(changes, key=lambda change: change.start):
        shots.append(range(start, min(change.start, frames)))
        start = max(start, change.stop)
    return tuple(shot for shot in (*shots, range(start, frames)) if shot)
