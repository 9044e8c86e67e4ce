"""Temporal plans: which stored frame stands in which slot of a training clip.

Augmentation in time is arithmetic on this one integer vector; frames, flow and masks are all read
from it, so they cannot disagree. Sixteen frames from frame 0, at half rate, two of them swapped:

    slot        0  1  2  3  4  5  6  7
    src_index   0  2 10  6  8  4 12 14      stride 2, stage 2, a quarter moved
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Int64

from flow_cache import Pair, hops

PairOrder = Literal["restored", "composed", "neighbours"]
Slots = Int64[np.ndarray, " t"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TemporalPlan:
    """The stored frame in each slot.

    Attributes:
        src_index: frame numbers of the stored clip, no two alike.
        window: the frames that the clip shows at the full rate and in order; at a frame rate of the
            model's own they are not evenly apart.
        stride: places of the window from slot to slot, before any shuffling.
        stage: pyramid stage, 1 is the full rate.
    """

    src_index: Slots
    window: Int64[np.ndarray, " w"]
    stride: int = 1
    stage: int = 1

    def __post_init__(self) -> None:
        index = self.src_index
        if index.dtype != np.int64 or index.ndim != 1:
            raise ValueError(f"src_index must be int64 [t], got {index.dtype} {list(index.shape)}")
        if len(np.unique(index)) != len(index) or (len(index) and index.min() < 0):
            raise ValueError(f"src_index must hold different frames from 0 up, got {index}")
        if len(index) != len(self.straight):
            raise ValueError(
                f"a window of {len(self.window)} frames has {len(self.straight)} slots at stride "
                f"{self.stride}, and src_index {len(index)}"
            )

    def __len__(self) -> int:
        return len(self.src_index)

    @property
    def straight(self) -> Slots:
        """The frames an unshuffled clip of this stride would show."""
        return self.window[:: self.stride]

    @property
    def moved(self) -> float:
        """Share of slots that do not show their frame of the unshuffled clip."""
        return float(np.mean(self.src_index != self.straight))

    @property
    def restore(self) -> Slots:
        """Slots in the order of their frames: `clip[restore]` runs forward in time."""
        return np.argsort(self.src_index)


def unshuffled(frames: Slots) -> TemporalPlan:
    """These stored frames, in order."""
    return TemporalPlan(src_index=frames, window=frames)


def window(start: int, frames: int) -> TemporalPlan:
    """Every stored frame of [start, start + frames), in order."""
    return unshuffled(np.arange(start, start + frames, dtype=np.int64))


def subsample(plan: TemporalPlan, stride: int, stage: int) -> TemporalPlan:
    """Every `stride`-th slot, as a clip of pyramid stage `stage`."""
    kept = plan.src_index[::stride].copy()
    return replace(plan, src_index=kept, stride=plan.stride * stride, stage=stage)


def reorder(plan: TemporalPlan, shuffle: Slots) -> TemporalPlan:
    """Slot i shows what slot shuffle[i] showed."""
    return replace(plan, src_index=plan.src_index[shuffle])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Supervision:
    """Which slots of a clip form the pairs whose motion is compared, and how stored flow answers.

    Attributes:
        slots: the slots of each pair.
        chains: for each pair the stored fields to compose: one if it is stored as it is, none if
            the pair is not supervised.
    """

    slots: Int64[np.ndarray, "n 2"]
    chains: tuple[tuple[Pair, ...], ...]

    @property
    def fields(self) -> tuple[Pair, ...]:
        """Every stored field needed, once, in order."""
        return tuple(sorted({pair for chain in self.chains for pair in chain}))


def supervise(
    plan: TemporalPlan, stored: Collection[Pair], order: PairOrder, max_hops: int
) -> Supervision:
    """The pairs of a clip that stored flow supervises.

    Args:
        stored: pairs (source frame, target frame) that the flow layer holds.
        order: `restored` puts the slots back in order first, so that a shuffled clip is supervised
            by the same stored flow as a straight one; `composed` compares neighbouring slots as
            they stand, with composed flow; `neighbours` does so only where the slots were
            neighbours before the shuffle.
        max_hops: pairs that need a longer chain of stored fields are left unsupervised.
    """
    along = plan.restore if order == "restored" else np.arange(len(plan))
    slots = np.stack([along[:-1], along[1:]], axis=1)
    places = np.searchsorted(plan.window, plan.src_index)[slots]
    apart, chains = np.abs(places[:, 1] - places[:, 0]).tolist(), []
    for (first, second), distance in zip(plan.src_index[slots].tolist(), apart, strict=True):
        excluded = order == "neighbours" and distance != plan.stride
        chain = () if excluded else tuple(hops(first, second, stored))
        chains.append(chain if len(chain) <= max_hops else ())
    return Supervision(slots=slots, chains=tuple(chains))
