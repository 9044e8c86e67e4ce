"""Everything random about one sample, decided before a byte of it is read."""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from shards.order import fold
from trainer.config import TrainConfig
from trainer.process.edm import draw_sigma
from trainer.temporal.fluxflow import permutation
from trainer.temporal.plan import TemporalPlan, reorder, subsample, window
from trainer.temporal.stages import Stage, stages


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """What training does with the clip at one position of the order."""

    position: int
    plan: TemporalPlan
    sigma: float


def draw_stage(config: TrainConfig, batch: int) -> Stage:
    """The stage of global batch `batch`: one a batch, so that batches are rectangular."""
    choices = stages(config.pyramid)
    return choices[fold(config.seed, batch, "stage") % len(choices)]


def draw_sample(config: TrainConfig, position: int, stage: Stage, stored_frames: int) -> Draw:
    """Window, shuffle and noise level of the sample at `position`.

    The window starts at a multiple of the largest stride, where every level's flow is stored and a
    stage's frames are the ones that the clip video can give without decoding the others.
    """
    rng = np.random.default_rng(fold(config.seed, position, "plan"))
    starts = (stored_frames - config.stream.frames) // config.pyramid.coarsest + 1
    start = config.pyramid.coarsest * int(rng.integers(starts)) if starts > 1 else 0
    plan = _shuffled(window(start, config.stream.frames), stage, config, rng)
    prior = NormalDist(config.noise.mean, config.noise.std)
    uniform = np.random.default_rng(fold(config.seed, position, "sigma")).random()
    sigma = draw_sigma(float(uniform), prior, stage.end, stage.start)
    return Draw(position=position, plan=plan, sigma=sigma)


def _shuffled(
    plan: TemporalPlan, stage: Stage, config: TrainConfig, rng: np.random.Generator
) -> TemporalPlan:
    """Stage and shuffle, in the configured order."""
    if config.fluxflow.before_stride:
        plan = reorder(plan, permutation(rng, len(plan), config.fluxflow))
        return subsample(plan, stage.stride, stage.number)
    plan = subsample(plan, stage.stride, stage.number)
    return reorder(plan, permutation(rng, len(plan), config.fluxflow))
