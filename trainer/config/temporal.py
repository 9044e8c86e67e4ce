"""What is shown: shuffles in time, and the temporal pyramid."""

import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Literal

from trainer.config.rules import require


def slots_at(frames: int, stride: int) -> int:
    """Slots that a window of so many frames fills at a stride: 17 frames fill 17, 9 and 5."""
    return (frames - 1) // stride + 1


@dataclass(frozen=True, kw_only=True, slots=True)
class FluxFlowConfig:
    """Shuffling of frames in time (FluxFlow, arXiv 2503.15417)."""

    mode: Literal["off", "frame", "block"] = "frame"
    """What trades places: single frames, or blocks of consecutive frames."""
    count: int | None = None
    """Frames (or blocks) of a full-rate clip that are shuffled; unset: `ratio` of them."""
    ratio: float | None = None
    """Share of the frames (or blocks) that are shuffled where `count` is unset; unset: 1/8 of the
    frames or 1/4 of the blocks. The paper's best frame settings lie between 1/8 and 1/6, its best
    block settings between 1/4 and 2/3; quality drops above one half of the frames."""
    block: int = 2
    """Frames in a block, at the full rate. A pyramid stage has as many blocks, of fewer slots."""
    remainder: Literal["tail", "head"] = "tail"
    """Which frames stay where blocks leave some over: the last or the first. Before a codec of
    4·k + 1 frames, `head` and a block of 4 move whole latents."""
    derangement: bool = False
    """Move every chosen frame. Without it, as in the paper, a shuffle of two frames leaves the clip
    as it was half of the time."""
    before_stride: bool = True
    """Shuffle the full-rate clip and subsample it then, so that each pyramid stage is every second
    slot of the finer one, as its path wants. Off: shuffle the subsampled clip. That reads fewer
    frames, but what one stage ends with is not what the next begins with."""

    def __post_init__(self) -> None:
        require(
            self.ratio is None or 0 < self.ratio <= 1,
            f"fluxflow.ratio must be in (0, 1], got {self.ratio}; to shuffle nothing, set "
            "fluxflow.mode to off",
        )
        require(self.block >= 1, f"fluxflow.block must be at least 1, got {self.block}")
        require(
            self.count is None or self.count >= 2,
            f"fluxflow.count must be at least 2, because one alone cannot trade places, got "
            f"{self.count}; to shuffle nothing, set fluxflow.mode to off",
        )

    def units(self, frames: int, stride: int = 1) -> tuple[int, int]:
        """(how many frames or blocks can trade places, slots in each) at a stride."""
        if self.mode == "frame":
            return slots_at(frames, stride), 1
        slots = max(1, self.block // stride)
        return frames // stride // slots, slots

    def chosen(self, frames: int) -> int:
        """Frames or blocks of a full-rate clip that are shuffled: `count`, else ⌊ratio·units⌋.

        The ratio may be a rounded quotient (49·(2/49) is 1.999… or 2), hence the small allowance
        before the floor. One unit alone cannot be shuffled, so a derived count of 1 becomes 2.
        """
        if self.count is not None:
            return self.count
        ratio = self.ratio or (1 / 8 if self.mode == "frame" else 1 / 4)
        derived = math.floor(ratio * self.units(frames)[0] + 1e-6)
        return 2 if derived == 1 else derived

    def dose(self, frames: int, stride: int = 1) -> Fraction:
        """Units expected to move at a stride, for the same share of slots as at the full rate.

        A uniform permutation of m units moves m - 1 of them on average, a derangement all m.
        """
        moved = self.chosen(frames) - (not self.derangement)
        share = Fraction(moved * self.units(frames)[1], frames)
        return share * slots_at(frames, stride) / self.units(frames, stride)[1]

    def check(self, frames: int, stride: int) -> None:
        """Raise UsageError unless clips of `frames` frames can be shuffled so at a stride."""
        (total, _), (units, _) = self.units(frames), self.units(frames, stride)
        dose, most = self.dose(frames, stride), units - (not self.derangement) if units > 1 else 0
        require(
            0 < dose <= most,
            f"fluxflow with count {self.count} and ratio {self.ratio} chooses {self.chosen(frames)}"
            f" of {total} {self.mode}s, to move {max(0, float(dose)):.3g} of the {units} at stride "
            f"{stride}, where a shuffle moves at most {most} on average and must move something: "
            "change fluxflow.count, ratio or block, or stream.frames, or set fluxflow.mode to off",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PyramidConfig:
    """Noisier stages train on fewer frames (TPDiff, arXiv 2503.09566)."""

    enabled: bool = True
    """Off: one stage at full rate over all noise levels, the plain process."""
    ends: tuple[float, ...] = (0.0, 0.5, 2.0)
    """The clean end of each stage's noise levels (noise over signal), full rate first, then half,
    then a quarter; each at least √2 times the one before. The defaults are flow matching's t = 0,
    1/3, 2/3. The last stage has no upper end."""
    odds: Literal["law", "equal"] = "law"
    """How often each stage is drawn. law: so that noise levels are as they are without a pyramid.
    equal: all as often, as in the paper, which makes the levels of coarse stages more frequent."""

    def __post_init__(self) -> None:
        require(
            1 <= len(self.ends) <= 3,
            f"pyramid.ends must name 1 to 3 stages (clip videos decode at strides 1, 2, 4), "
            f"got {self.ends}",
        )
        require(self.ends[0] == 0, f"pyramid.ends must begin with 0, got {self.ends}")
        require(
            all(max(low, 1e-9) * math.sqrt(2) <= high for low, high in pairwise(self.ends)),
            "pyramid.ends must each be at least √2 times the one before, where the finer stage "
            f"begins, got {self.ends}",
        )

    @property
    def strides(self) -> tuple[int, ...]:
        """The frame stride of each stage, full rate first."""
        return tuple(2**k for k in range(len(self.ends))) if self.enabled else (1,)

    @property
    def coarsest(self) -> int:
        """The largest frame stride of any stage."""
        return self.strides[-1]
