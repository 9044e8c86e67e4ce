"""Times of decoded frames: strictly in order, whatever the container wrote."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from statistics import median_low

_GAP_S, _GAP_STEPS = 1, 10
_REORDER_FRAMES = 32  # no codec reorders by more than 16; a larger step back is a new start


def typical_step(times: Sequence[int]) -> int:
    """Median distance between neighbouring times, at least 1 tick."""
    steps = [later - earlier for earlier, later in pairwise(times) if later > earlier]
    return median_low(steps) if steps else 1


def longest_step(times: Sequence[int], time_base: Fraction) -> Fraction:
    """The longest that a frame may show, in ticks: what is more is a gap in the timestamps.

    More than a second and more than ten typical steps. A second is as long as a picture may stand
    in a recording of variable rate and the frames on both sides be one movement; where frames are
    seconds apart throughout (a time lapse), ten of them missing tell the same.
    """
    return max(_GAP_S / time_base, Fraction(_GAP_STEPS * typical_step(times)))


def gaps(times: Sequence[int], time_base: Fraction) -> set[int]:
    """Numbers of the frames that come after a gap."""
    longest = longest_step(times, time_base)
    return {n for n, (a, b) in enumerate(pairwise(times), start=1) if b - a > longest}


def are_clean(raw: Sequence[int | None]) -> bool:
    """Every frame has a time and comes after the one before: nothing to repair."""
    return None not in raw and all(a < b for a, b in pairwise(raw))  # type: ignore[operator]


def repair(raw: Sequence[int | None], step: int) -> list[int]:
    """Times in presentation order for frames in presentation order, never decreasing.

    Some containers (AVI) number frames in decoding order, so times are sorted; a jump back by more
    than any reordering starts a new timeline, which is appended to the old one; a missing time
    follows the one before by `step`.
    """
    times: list[int] = []
    offset = 0
    for time in raw:
        after = max(times[-_REORDER_FRAMES:]) + step if times else time or 0
        moved = after if time is None else time + offset
        if moved < after - (_REORDER_FRAMES + 1) * step:
            offset += after - moved
            moved = after
        times.append(moved)
    return sorted(times)


def frame_rate(times: Sequence[int], time_base: Fraction, claimed: Fraction | None) -> Fraction:
    """Frames a second: the container's claim where mean or typical step agree with it to 1 %.

    Else the mean over all but gaps: a wrong claim, or a variable frame rate. Never 0, however slow.
    """
    typical = 1 / (typical_step(times) * time_base)
    longest = longest_step(times, time_base)
    steps = [b - a for a, b in pairwise(times) if b - a <= longest]
    span = sum(steps) * time_base
    mean = len(steps) / span if span else typical
    if claimed is not None and any(abs(claimed / rate - 1) <= 0.01 for rate in (mean, typical)):
        return claimed
    return mean.limit_denominator(1001) if mean >= 1 else 1 / (1 / mean).limit_denominator(1001)
