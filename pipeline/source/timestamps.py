"""Times of decoded frames: strictly in order, whatever the container wrote."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from statistics import median_low

_REORDER_FRAMES = 32  # no codec reorders by more than 16; a larger step back is a new start


def typical_step(times: Sequence[int]) -> int:
    """Median distance between neighbouring times, at least 1 tick."""
    steps = [later - earlier for earlier, later in pairwise(times) if later > earlier]
    return median_low(steps) if steps else 1


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

    Else the mean: a wrong claim, or a variable frame rate.
    """
    typical = 1 / (typical_step(times) * time_base)
    span = (times[-1] - times[0]) * time_base
    mean = (len(times) - 1) / span if span else typical
    if claimed is not None and any(abs(claimed / rate - 1) <= 0.01 for rate in (mean, typical)):
        return claimed
    return mean.limit_denominator(1001)
