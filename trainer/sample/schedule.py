"""Schedules: sampling as rows of data. One loop follows them, whatever they are for.

A row takes every slot from one noise level to a lower one. Given slots have level 0 throughout; so
the tasks differ in nothing but which frames are given (FVDM, arXiv 2410.03160; Pusa, 2507.16116):

    text to video     none          interpolation   0 and the last
    image to video    any           long video      the first, which the chunk before ended with

With a temporal pyramid the rows begin at the coarsest stage, and a stage's first row says that the
slots are doubled and renoised before it.
"""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float64

from shards import UsageError
from trainer.config import ProcessConfig, PyramidConfig
from trainer.sample.spacing import spaced
from trainer.temporal.stages import Stage, stages


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Row:
    """One step of sampling.

    Attributes:
        stage: of the pyramid.
        here, there: the noise level of each slot before and after.
        given: True for slots that are known, which the step leaves as they are.
        renoise: the slots come from the next coarser stage's: doubled and renoised before the step.
    """

    stage: Stage
    here: Float64[np.ndarray, " t"]
    there: Float64[np.ndarray, " t"]
    given: Bool[np.ndarray, " t"]
    renoise: bool


Schedule = tuple[Row, ...]


def schedule(
    process: ProcessConfig,
    pyramid: PyramidConfig,
    slots: int,
    steps: int,
    given: Collection[int] = (),
) -> Schedule:
    """The rows that make clips of so many slots.

    Args:
        slots: at the full rate; a stage of stride s has every s-th, from slot 0 on.
        steps: of all stages together; each has as many, coarse ones one more where that is uneven.
        given: slots that are known, at the full rate.

    Raises:
        UsageError: a given slot is not in every stage, or there are fewer steps than stages.
    """
    order = stages(pyramid)[::-1]
    check_given(given, slots, pyramid.coarsest)
    if steps < len(order):
        raise UsageError(
            f"steps is {steps}; the pyramid has {len(order)} stages, and each needs a step"
        )
    rows: list[Row] = []
    for number, stage in enumerate(order):
        known = np.isin(np.arange(0, slots, stage.stride), list(given))
        count = (steps + len(order) - 1 - number) // len(order)
        path = spaced(process, stage.interval.start, stage.interval.end, count)
        for step, (here, there) in enumerate(pairwise(path.tolist())):
            rows.append(
                Row(
                    stage=stage,
                    here=np.where(known, 0.0, here),
                    there=np.where(known, 0.0, there),
                    given=known,
                    renoise=number > 0 and step == 0,
                )
            )
    return tuple(rows)


def check_given(given: Collection[int], slots: int, coarsest: int) -> None:
    """Refuse given slots that the clip, or the coarsest stage of its pyramid, does not have.

    A finer stage learns of a given frame too late: what it adds to was sampled without it.

    Raises:
        UsageError: naming the first of them, and what would do.
    """
    for slot in sorted(given):
        if not 0 <= slot < slots:
            raise UsageError(f"frame {slot} cannot be given: clips have frames 0 to {slots - 1}")
        if slot % coarsest:
            below = slot - slot % coarsest
            above = below + coarsest
            near = f"{below} or {above}" if above < slots else str(below)
            raise UsageError(
                f"frame {slot} cannot be given: the coarsest stage of the pyramid has every "
                f"{coarsest}th frame, and what is given must be among them; give it as frame "
                f"{near}, or train without the pyramid"
            )


def chunk_starts(frames: int, window: int, overlap: int) -> tuple[int, ...]:
    """First frames of the windows of a long video, each with `overlap` frames of the one before.

    They cover `frames`, the last perhaps more: sixteen frames and fourteen times eight are 128.

    Raises:
        UsageError: windows that share all of their frames, or none, make no progress or no sense.
    """
    if frames > window and not 1 <= overlap < window:
        raise UsageError(
            f"overlap is {overlap}; windows of {window} frames share 1 to {window - 1} with the "
            "one before"
        )
    hop = window - overlap
    return tuple(range(0, max(frames - overlap, 1), hop)) if frames > window else (0,)
