"""The model's frame rate: windows whose slots are as long for every clip, whatever its own rate.

Slot k of a window that begins with stored frame s is at time t(s) + k / fps and shows the stored
frame that is nearest, of two as near the earlier. Thirty a second, shown at twelve:

    slot            0         1         2         3         4
    stored frame    0    1    2    3    4    5    6    7    8    9    10
    shown           0         2              5         7             10
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
from jaxtyping import Int64

ALIGNED = 4  # windows begin where every level's flow is stored and every stride decodes alone
SAME_RATE = Fraction(1, 500)  # 24 and 23.976, however it is rounded, differ by half of that
_FAR = 2**60  # ticks: nothing is shown so late
Windows = Int64[np.ndarray, "s t"]


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameTimes:
    """When the stored frames of a clip show, for a model of one frame rate.

    Attributes:
        ticks: of each frame, counted from the first one; never falling. Two at the same time are
            the same picture.
        period: ticks from slot to slot.
        end: ticks at which the last frame ceases to show.
    """

    ticks: tuple[int, ...]
    period: int
    end: int

    @property
    def slots(self) -> int:
        """Slots that begin before the end."""
        return (self.end - 1) // self.period + 1


def as_rate(fps: float) -> Fraction:
    """Frames a second as a fraction of small numbers, such as 24 or 30000 / 1001."""
    return Fraction(fps).limit_denominator(1001)


def frame_times(
    pts: Sequence[int], time_base: Fraction, own: Fraction, fps: Fraction
) -> FrameTimes:
    """When stored frames show: by their time stamps, exactly.

    A clip whose own rate is the model's, to `SAME_RATE`, has a frame for each slot as it is stored,
    if none is further off than a slot: builds with `--fps` put into each slot the latest frame of a
    source, which is as late as that, and time stamps are whole ticks.

    Args:
        pts: of each stored frame, in units of the time base; never falling.
        own: frames per second of the clip.
        fps: slots per second.
    """
    since, step = [time - pts[0] for time in pts], time_base * own
    unit, tick = step.denominator, step.numerator
    if abs(own / fps - 1) <= SAME_RATE and all(
        abs(time * tick - slot * unit) <= unit for slot, time in enumerate(since)
    ):
        return FrameTimes(ticks=tuple(range(len(pts))), period=1, end=len(pts))
    scale = time_base * fps
    ticks = tuple(min(time * scale.numerator, _FAR) for time in since)
    shows = math.ceil(scale.denominator * fps / own)
    return FrameTimes(ticks=ticks, period=scale.denominator, end=ticks[-1] + shows)


@lru_cache(maxsize=64)
def windows(times: FrameTimes, slots: int, aligned: int) -> Windows:
    """The stored frames of every window that can be shown, by the frame that it begins with.

    A window can be shown if its last slot begins before the clip ends and each slot has a frame of
    its own within half a slot of its time: no picture stands twice. Where frames are further apart
    than that the clip, or that part of it, is too slow.

    Args:
        aligned: windows begin at multiples of so many stored frames.
    """
    ticks, frames = np.unique(np.array(times.ticks, np.int64), return_index=True)
    starts, order = ticks[frames % aligned == 0], np.arange(slots)
    wanted = starts[:, None] + times.period * order
    after = np.searchsorted(ticks, wanted).clip(max=len(ticks) - 1)
    before = (after - 1).clip(min=0)
    nearest = np.where(wanted - ticks[before] <= ticks[after] - wanted, before, after)
    rising = np.maximum.accumulate(nearest - order, axis=1) + order
    there = (rising[:, -1] < len(ticks)) & (wanted[:, -1] < times.end)
    shown, wanted = rising[there], wanted[there]
    near = (2 * np.abs(ticks[shown] - wanted) <= times.period).all(axis=1)
    found: Windows = frames[shown[near]].astype(np.int64)
    found.flags.writeable = False  # it is kept
    return found


def in_turn(found: Windows, aligned: int) -> Int64[np.ndarray, " n"]:
    """The first frames of windows that follow each other, at the same multiples and no closer than
    these allow."""
    firsts, free = [], 0
    for first, last in zip(found[:, 0].tolist(), found[:, -1].tolist(), strict=True):
        if first >= free:
            firsts.append(first)
            free = first + max(aligned, (last + 1 - first) // aligned * aligned)
    return np.array(firsts, np.int64)
