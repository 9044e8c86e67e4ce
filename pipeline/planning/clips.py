"""Shots to clips by timestamps, in exact arithmetic; pure."""

import math
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import PurePath

from pipeline.records import Reject, Source, Video
from pipeline.source.timestamps import frame_rate, typical_step
from shards import Clip


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipRule:
    """How shots become clips.

    Attributes:
        frames: slots in a clip.
        size: (height, width) in pixels.
        fps: slots a second; None takes the source's frames one after another.
        max_repeated: largest share of a clip's slots that may show the frame of the slot before.
    """

    frames: int
    size: tuple[int, int]
    fps: Fraction | None
    max_repeated: float = 0.25


def grid(times: Sequence[int], end: int, time_base: Fraction, fps: Fraction) -> list[int]:
    """Index of the frame in each slot of a shot sampled at `fps`.

    Slot k is at time t_k = times[0] + k / fps and shows the last frame with time <= t_k + e, for
    all k with t_k + e < end. Containers round times to ticks, the shot's start as well as the
    frame's, so e is one tick; where ticks are as coarse as frames it is half a frame instead.

    Args:
        times: of the shot's frames in units of the time base, strictly increasing.
        end: when the last frame's display ends.
    """
    step = 1 / (fps * time_base)
    start = times[0] + min(Fraction(1), Fraction(typical_step([*times, end]), 2))
    slots = math.ceil((end - start) / step)
    return [bisect_right(times, math.floor(start + k * step)) - 1 for k in range(slots)]


def plan_clips(
    video: Video, source: Source, times: Sequence[int], shots: Sequence[range], rule: ClipRule
) -> tuple[tuple[Clip, ...], int] | Reject:
    """The clips of a video and how many were dropped for repeating frames, or why there are none.

    Clips follow each other without overlap in each shot, from its start.

    Args:
        times: of all frames of the video, never decreasing; its end is `video.end_pts`.
        shots: half-open ranges of frame numbers; frames outside all of them are not used.
    """
    rate = frame_rate(times, video.time_base, video.average_rate)
    ends = [*times, video.end_pts]
    clips: list[Clip] = []
    dropped = planned = longest = 0
    for shot, numbers in enumerate(shots):
        shown = [n for n in numbers if ends[n] < ends[n + 1]]  # a frame of no duration is unseen
        slots = _slots(shown, times, ends[numbers.stop], video.time_base, rule.fps)
        longest = max(longest, len(slots))
        for chosen in _chunks(slots, rule.frames):
            repeated = sum(a == b for a, b in pairwise(chosen))
            if repeated > rule.max_repeated * rule.frames:
                dropped += 1
                continue
            clips.append(
                Clip(
                    key=clip_key(video.path, video.sha256, planned),
                    path=video.path,
                    source_sha256=video.sha256,
                    numbers=chosen,
                    pts=tuple(times[n] for n in chosen),
                    time_base=video.time_base,
                    fps=rule.fps or rate,
                    size=rule.size,
                    shot=shot,
                    repeated=repeated,
                    decode_errors=video.decode_errors,
                    seekable=video.seekable,
                    caption=source.caption or "",
                    columns=source.columns,
                )
            )
            planned += 1
    if clips:
        return tuple(clips), dropped
    lost = video.frames - sum(map(len, shots))
    return _no_clip(video, rule, rate, longest=longest, dropped=dropped, lost=lost)


def _slots(
    shown: list[int], times: Sequence[int], end: int, time_base: Fraction, fps: Fraction | None
) -> list[int]:
    """Frame number in each slot of a shot, given its numbers that are shown for some time."""
    if fps is None or not shown:
        return shown
    return [shown[i] for i in grid([times[n] for n in shown], end, time_base, fps)]


def _chunks(slots: list[int], length: int) -> Iterator[tuple[int, ...]]:
    for start in range(0, len(slots) - length + 1, length):
        yield tuple(slots[start : start + length])


def _no_clip(
    video: Video, rule: ClipRule, rate: Fraction, *, longest: int, dropped: int, lost: int
) -> Reject:
    if dropped:
        reason = "repeated_frames"
        detail = (
            f"at {float(rule.fps or rate):g} fps all {dropped} clips repeat more than "
            f"{rule.max_repeated:.0%} of their frames; the source has about {float(rate):.3g} fps"
        )
    else:
        reason = "damaged" if lost > video.frames / 2 else "too_short"
        pace = "" if rule.fps is None else f" at {float(rule.fps):g} fps"
        detail = f"the longest shot gives {longest} frames{pace}, a clip needs {rule.frames}"
        if lost:
            detail = f"{lost} of {video.frames} frames are damaged; {detail}"
    return Reject(path=video.path, sha256=video.sha256, stage="clips", reason=reason, detail=detail)


def clip_key(path: str, sha256: str, number: int) -> str:
    """`NAME-HASH-NUMBER`: ASCII without dots, unique by hash and number, readable by name."""
    stem = unicodedata.normalize("NFKD", PurePath(path).stem).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9]+", "_", stem)[:24].strip("_") or "video"
    return f"{name}-{sha256[:12]}-{number:05d}"
