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
from pipeline.source.timestamps import frame_rate, longest_step, typical_step
from shards import Clip, is_storable


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipRule:
    """How shots become clips.

    Attributes:
        frames: slots in a clip.
        size: (height, width) in pixels.
        fps: slots per second; None takes the source's frames one after another.
        max_repeated: largest share of a clip's slots that may show the frame of the slot before.
            Of clips that show one and the same frame only, the first counts.
    """

    frames: int
    size: tuple[int, int]
    fps: Fraction | None
    max_repeated: float = 0.25


class Grid:
    """The slots of a shot sampled at a rate, worked out one by one: there may be any number.

    Slot k is at time t_k = times[0] + k / fps and shows the last frame with time <= t_k + e, for
    all k with t_k + e < end. Containers round times to ticks, the shot's start as well as the
    frame's, so e is one tick; where ticks are as coarse as frames it is half a frame instead.

    Args:
        times: of the shot's frames in units of the time base, strictly increasing.
        end: when the last frame's display ends.
        fps: slots per second; None takes the frames one after another.

    Attributes:
        slots: how many there are.
    """

    def __init__(
        self, times: Sequence[int], end: int, time_base: Fraction, fps: Fraction | None
    ) -> None:
        self._times, self._step = times, None if fps is None else 1 / (fps * time_base)
        self.slots = len(times)
        if times and self._step is not None:
            self._start = times[0] + min(Fraction(1), Fraction(typical_step([*times, end]), 2))
            self.slots = max(0, math.ceil((end - self._start) / self._step))

    def frame(self, slot: int) -> int:
        """Index of the frame that a slot shows."""
        if self._step is None:
            return slot
        return bisect_right(self._times, math.floor(self._start + slot * self._step)) - 1

    def after(self, slot: int) -> int:
        """The first slot that shows a later frame than this one does, or `slots`."""
        later = self.frame(slot) + 1
        if later == len(self._times):
            return self.slots
        if self._step is None:
            return later
        return min(self.slots, math.ceil((self._times[later] - self._start) / self._step))

    def clips(self, rule: ClipRule) -> Iterator[tuple[tuple[int, ...], int]]:
        """Frame indices of each clip that the rule keeps, and how many repeat the one before.

        Of a frame that stands for several clips, at most the first is kept and the others are
        stepped over at once: the work is bounded by the number of frames, whatever their times.
        """
        slot = 0
        while slot + rule.frames <= self.slots:
            chosen = tuple(self.frame(k) for k in range(slot, slot + rule.frames))
            repeated = sum(a == b for a, b in pairwise(chosen))
            if repeated <= rule.max_repeated * rule.frames:
                yield chosen, repeated
            still = chosen[0] == chosen[-1]
            slot += rule.frames * ((self.after(slot) - slot) // rule.frames if still else 1)


def plan_clips(
    video: Video,
    source: Source,
    times: Sequence[int],
    shots: Sequence[range],
    rule: ClipRule,
    *,
    damaged: int = 0,
) -> tuple[tuple[Clip, ...], int] | Reject:
    """The clips of a video and how many were dropped for repeating frames, or why there are none.

    Clips follow each other without overlap in each shot, from its start.

    Args:
        times: of all frames of the video, never decreasing; its end is `video.end_pts`.
        shots: half-open ranges of frame numbers; frames outside all of them are not used.
        damaged: how many of those outside are damaged; the others are part of gradual changes.
    """
    rate = frame_rate(times, video.time_base, video.average_rate)
    if problem := _beyond_the_index(video, times, rule.fps or rate):
        return Reject(
            path=video.path, sha256=video.sha256, stage="clips", reason="timestamps", detail=problem
        )
    ends = _ends(times, video)
    clips: list[Clip] = []
    planned = longest = 0
    for shot, numbers in enumerate(shots):
        shown = [n for n in numbers if times[n] < ends[n]]  # a frame of no duration is unseen
        end = ends[shown[-1]] if shown else 0
        grid = Grid([times[n] for n in shown], end, video.time_base, rule.fps)
        longest = max(longest, grid.slots)
        planned += grid.slots // rule.frames
        for chosen, repeated in grid.clips(rule):
            frames = tuple(shown[i] for i in chosen)
            clips.append(
                Clip(
                    key=clip_key(video.path, video.sha256, len(clips)),
                    path=video.path,
                    source_sha256=video.sha256,
                    numbers=frames,
                    pts=tuple(times[n] for n in frames),
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
    dropped = planned - len(clips)
    if clips:
        return tuple(clips), dropped
    return _no_clip(video, rule, rate, longest=longest, dropped=dropped, lost=damaged)


def _ends(times: Sequence[int], video: Video) -> list[int]:
    """When the display of each frame ends: at the next, or after a typical step before a gap."""
    longest, step = longest_step(times, video.time_base), typical_step(times)
    return [
        end if end - time <= longest else time + step
        for time, end in pairwise([*times, video.end_pts])
    ]


def _beyond_the_index(video: Video, times: Sequence[int], rate: Fraction) -> str | None:
    """What of a video's times the columns of the clip table cannot hold, or no clip can have."""
    base = video.time_base
    if not (0 < base.numerator < 2**31 and base.denominator < 2**31):
        return f"the time base is {base} s; numerator and denominator must be 1 to {2**31 - 1}"
    if not -(2**63) <= times[0] <= times[-1] < 2**63:
        return f"times go from {times[0]} to {times[-1]}, beyond 64 bits"
    if not is_storable(rate):
        return f"{rate} frames a second are more or fewer than a clip can be stored with"
    return None


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
