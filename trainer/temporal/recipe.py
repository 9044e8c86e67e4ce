"""What the stream asks of training: how each sample is shown, decided before a byte is read.

A recipe is two pure functions. The stream reads and decodes what their answers name and knows
nothing of why: another recipe is another training, with the same stream.
"""

import math
from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from typing import Protocol

import numpy as np
from jaxtyping import Float32
from numpy.lib.stride_tricks import sliding_window_view

from flow_cache import Pair
from shards import UsageError, chance, fold
from trainer.config import TrainConfig
from trainer.config.rules import require
from trainer.process.build import build_process
from trainer.process.laws import Part, parts
from trainer.process.pyramid import NoiseInterval
from trainer.spatial.framing import Framing
from trainer.spatial.transform import SpatialTransform
from trainer.temporal.fluxflow import draw_shuffle
from trainer.temporal.plan import (
    Supervision,
    TemporalPlan,
    reorder,
    subsample,
    supervise,
    unshuffled,
)
from trainer.temporal.rate import ALIGNED, FrameTimes, Windows, windows
from trainer.temporal.stages import Stage, stages

_LEAST_OPEN = 0.01  # of the noise levels: a gate that fewer pass is taken for a mistake
_MOST_HOPS = 8  # stored fields that a pair's flow may be composed of


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipFacts:
    """What a recipe may know of a stored clip.

    Attributes:
        frames: stored ones that may be shown.
        flow_pairs: (source frame, target frame) whose flow the opened layer holds; none without.
        first: the first frame that may be shown; above 0 where a clip gives several samples.
        framing: which part of the pictures the stream is configured to show; None: all of them.
        times: when the clip's frames show, where the model has a frame rate of its own
            (`stream.fps`); None: each stored frame is a slot.
    """

    frames: int
    flow_pairs: tuple[Pair, ...]
    first: int = 0
    framing: Framing | None = None
    times: FrameTimes | None = None

    def span(self, otherwise: int) -> int:
        """Slots that a sample spans: those of its bucket; `otherwise` if it has none."""
        return otherwise if self.framing is None else self.framing.bucket.frames

    def windows(self, slots: int, aligned: int) -> Windows:
        """The stored frames of every window that may be shown, one at least.

        Args:
            aligned: windows begin at multiples of so many stored frames.

        Raises:
            UsageError: the clip has none of so many slots.
        """
        first, end = self.first, self.first + self.frames
        if self.times is not None:
            found: Windows = windows(self.times, slots, aligned)
            found = found[(found[:, 0] >= first) & (found[:, -1] < end)]
        elif slots <= self.frames:
            found = sliding_window_view(np.arange(first, end), slots)[::aligned]
        else:
            found = np.empty((0, slots), np.int64)
        if not len(found):
            raise UsageError(
                f"a clip has no window of {slots} frames: let those of the recipe be at most those "
                "of the stream (stream.frames, stream.buckets), which chose it"
            )
        return found

    def draw_space(self, seed: int, position: int) -> SpatialTransform | None:
        """What a position shows of the pictures; None: all, as they are stored."""
        return None if self.framing is None else self.framing.draw(seed, position)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SamplePlan:
    """What training does with the clip at one position of the order.

    Attributes:
        shown: the stored frame in each slot.
        levels: the noise level of each slot; None where whoever trains draws their own.
        supervision: the pairs whose flow is wanted; None reads none.
        space: what is shown of the pictures, of flow and of visibility; None: all, as stored.
    """

    shown: TemporalPlan
    levels: Float32[np.ndarray, " t"] | None
    supervision: Supervision | None
    space: SpatialTransform | None = None

    def __post_init__(self) -> None:
        levels = self.levels
        if levels is not None and (levels.dtype, levels.shape) != (np.float32, (len(self.shown),)):
            raise ValueError(
                f"levels must be float32 with one for each of {len(self.shown)} slots, got "
                f"{levels.dtype} {list(levels.shape)}"
            )


class Recipe(Protocol):
    """How samples are shown. Both answers are functions of their arguments, and of nothing else."""

    def group(self, batch_number: int) -> Stage:
        """What the samples of a global batch have in common: one stage, hence one shape."""

    def sample(self, position: int, clip: ClipFacts, group: Stage) -> SamplePlan:
        """How the clip at a position of the order is shown, in a batch of this group."""


@dataclass(frozen=True, slots=True)
class PlainRecipe:
    """Clips in order, at one stride, without noise levels: for trainers that draw their own.

    Attributes:
        frames: that a sample spans at the full rate; None: those of its bucket, or all of a clip.
        stride: show every so many of them: 1, 2 or 4.
        seed: of the window, where clips are longer.
        flow: whether stored flow between neighbouring slots is wanted.
    """

    frames: int | None = None
    stride: int = 1
    seed: int = 0
    flow: bool = False

    def group(self, batch_number: int) -> Stage:
        """The one there is."""
        whole = NoiseInterval(end=0.0, start=math.inf)
        return Stage(number=self.stride.bit_length(), stride=self.stride, interval=whole)

    def sample(self, position: int, clip: ClipFacts, group: Stage) -> SamplePlan:
        """A window, and the pairs of neighbours in it."""
        windows = clip.windows(self.frames or clip.span(clip.frames), ALIGNED)
        drawn = windows[fold(self.seed, position, "plan") % len(windows)]
        shown = subsample(unshuffled(drawn), self.stride, group.number)
        wanted = self.flow and clip.flow_pairs and len(shown) > 1
        flow = supervise(shown, clip.flow_pairs, "restored", _MOST_HOPS) if wanted else None
        space = clip.draw_space(self.seed, position)
        return SamplePlan(shown=shown, levels=None, supervision=flow, space=space)


@dataclass(frozen=True, slots=True)
class TrainRecipe:
    """FluxFlow × temporal pyramid × a process's noise levels, with FlowLoss, as configured.

    All that is random is a function of (seed, position, purpose).

    Raises:
        UsageError: a stage of the pyramid has none of the process's noise levels, or the gate of
            the losses of motion hardly any.
    """

    config: TrainConfig

    def __post_init__(self) -> None:
        config, psi = self.config, self.config.flow_loss.psi
        parts = zip(stage_odds(config), law_parts(config), strict=True)
        opens = sum(odds * part.below(psi) for odds, part in parts)
        require(
            opens >= _LEAST_OPEN or config.flow_loss.weight == config.warping.weight == 0,
            f"flow_loss.psi {psi:g} is above {opens:.2%} of the noise levels, so that flow_loss "
            "and warping would say next to nothing: raise it, or set their weights to 0",
        )

    def group(self, batch_number: int) -> Stage:
        """The stage of a global batch, drawn by the odds of the stages."""
        choices, odds = stages(self.config.pyramid), stage_odds(self.config)
        drawn = (fold(self.config.seed, batch_number, "stage") >> 11) / 2**53
        return choices[min(bisect_right(list(accumulate(odds)), drawn), len(choices) - 1)]

    def sample(self, position: int, clip: ClipFacts, group: Stage) -> SamplePlan:
        """Window and shuffle, noise levels, FlowLoss's pairs below its gate."""
        shown = self._shown(position, clip, group)
        levels = self._levels(position, len(shown), law_parts(self.config)[group.number - 1])
        supervision = self._supervision(shown, levels, clip)
        space = clip.draw_space(self.config.seed, position)
        return SamplePlan(shown=shown, levels=levels, supervision=supervision, space=space)

    def _levels(self, position: int, slots: int, part: Part) -> Float32[np.ndarray, " t"]:
        """One level for all slots or, in a share of the clips, one for each (FVDM's PTSS); 0 for
        those that are given."""
        config, seed = self.config.process, self.config.seed
        rng = np.random.default_rng(fold(seed, position, "sigma"))
        by_batch = config.per_slot_by == "batch"
        coin = position // self.config.stream.batch if by_batch else position
        alone = chance(config.per_slot, seed, coin, "per slot")
        shares = rng.random(slots if alone else 1)
        levels = np.array([part.level(float(share)) for share in shares], np.float32)
        levels = np.broadcast_to(levels, slots).copy()
        levels[: config.given] = 0
        return levels

    def _shown(self, position: int, clip: ClipFacts, stage: Stage) -> TemporalPlan:
        """A window of the stored clip, its stage and its shuffle, in the configured order.

        The window starts at a multiple of the largest stride, where every level's flow is stored
        and a stage's frames are those that the clip video can give without decoding the others.
        """
        frames, coarsest = clip.span(self.config.stream.frames), self.config.pyramid.coarsest
        rng = np.random.default_rng(fold(self.config.seed, position, "plan"))
        windows = clip.windows(frames, coarsest)
        plan = unshuffled(windows[int(rng.integers(len(windows))) if len(windows) > 1 else 0])
        fluxflow = self.config.fluxflow
        if fluxflow.before_stride:
            plan = reorder(plan, draw_shuffle(rng, fluxflow, frames))
            return subsample(plan, stage.stride, stage.number)
        plan = subsample(plan, stage.stride, stage.number)
        return reorder(plan, draw_shuffle(rng, fluxflow, frames, stage.stride))

    def _supervision(
        self, shown: TemporalPlan, levels: Float32[np.ndarray, " t"], clip: ClipFacts
    ) -> Supervision | None:
        """The pairs that FlowLoss will compare; None for a sample that its gate keeps out."""
        loss = self.config.flow_loss
        if not clip.flow_pairs or levels.min() >= loss.psi or len(shown) < 2:
            return None
        wanted = supervise(shown, clip.flow_pairs, loss.order, loss.max_hops)
        noisier = levels[wanted.slots].max(axis=1)
        passes = (noisier > 0) & (noisier < loss.psi)  # two given slots have nothing to learn
        chains = zip(wanted.chains, passes, strict=True)
        kept = tuple(chain if passed else () for chain, passed in chains)
        return replace(wanted, chains=kept) if passes.any() else None


def stage_odds(config: TrainConfig) -> tuple[float, ...]:
    """How often each stage is drawn; they sum to 1."""
    by_law = config.pyramid.odds == "law"
    odds = [part.odds if by_law else 1.0 for part in law_parts(config)]
    return tuple(each / sum(odds) for each in odds)


@lru_cache(maxsize=8)
def law_parts(config: TrainConfig) -> tuple[Part, ...]:
    """What part of the process's law of levels each stage trains on; UsageError if one has none."""
    choices, law = stages(config.pyramid), build_process(config.process).law
    intervals = [(stage.interval.end, stage.interval.start) for stage in choices]
    found = parts(law, intervals, shared=config.pyramid.odds == "law")
    for stage, part in zip(choices, found, strict=True):
        require(
            part.odds > 0,
            f"pyramid.ends {config.pyramid.ends}: process.kind {config.process.kind} has no noise "
            f"levels for stage {stage.number}, from {stage.interval.end:g} to "
            f"{stage.interval.start:g}; the highest that matters is {law.level(1 - 1e-9):.3g}",
        )
    return found
