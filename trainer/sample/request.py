"""Clips of a trained model, as somebody wants them: how many, how long, with which frames given."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float32
from torch import Tensor

from shards import UsageError, fold
from trainer.config import TrainConfig
from trainer.process.process import Clips
from trainer.sample.loop import Sampler, noise_of
from trainer.sample.schedule import Schedule, check_given, chunk_starts, schedule

Slot = Float32[Tensor, "c h w"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What to sample.

    Attributes:
        frames: of a clip; more than the model was trained on are sampled as windows that overlap.
        steps: of a window.
        overlap: frames that a window of a long video is given of the one before.
        seed: a clip is a function of it and of the clip's position.
    """

    frames: int
    steps: int
    overlap: int
    seed: int


def usual(config: TrainConfig) -> Request:
    """Clips as long as the training's; windows share half of them, with a pyramid the one frame
    that every stage can have."""
    frames = config.stream.frames
    overlap = 1 if config.pyramid.coarsest > 1 else max(frames // 2, 1)
    return Request(frames=frames, steps=30, overlap=overlap, seed=0)


def plan(config: TrainConfig, request: Request, given: Sequence[int]) -> tuple[Schedule, ...]:
    """The schedule of each window of the clips; one window where they are short enough.

    Raises:
        UsageError: a frame cannot be given, or the windows do not fit together.
    """
    window = min(request.frames, config.stream.frames)
    if window < 1:
        raise UsageError(f"frames is {request.frames}; a clip has 1 or more")
    starts = chunk_starts(request.frames, window, request.overlap)
    check_given(given, window, config.pyramid.coarsest)
    if len(starts) > 1 and config.pyramid.coarsest > 1 < request.overlap:
        raise UsageError(
            f"overlap is {request.overlap}; the coarsest stage of the pyramid has every "
            f"{config.pyramid.coarsest}th frame, so windows can share 1: set overlap to 1, or "
            "train without the pyramid"
        )
    known = [given, *[range(request.overlap)] * (len(starts) - 1)]
    return tuple(
        schedule(config.process, config.pyramid, window, request.steps, slots) for slots in known
    )


def fulfil(
    sampler: Sampler,
    plans: Sequence[Schedule],
    request: Request,
    positions: Sequence[int],
    shape: tuple[int, int, int],
    given: Mapping[int, Slot],
    progress: Callable[[], None] = lambda: None,
) -> Clips:
    """Sample the clips at some positions, [b, frames, c, h, w].

    Args:
        plans: of `plan`, for this request and these frames.
        positions: which clips; any split of them gives the same ones, but for rounding.
        shape: channels, height and width of a slot.
        given: what is known of the first window, by its slot.
        progress: called after each step.
    """
    window, device = len(plans[0][-1].here), sampler.time.device
    clean = torch.zeros(len(positions), window, *shape, device=device)
    for slot, known in given.items():
        clean[:, slot] = known.to(device)
    shown: list[Clips] = []
    for number, rows in enumerate(plans):
        seed = fold(request.seed, number, "window") if number else request.seed
        noise = noise_of(shape, seed, positions, device)
        for latest in sampler.follow(rows, noise, clean):
            x = latest
            progress()
        shown.append(x[:, request.overlap :] if number else x)
        clean[:, : request.overlap] = x[:, -request.overlap :]
    return torch.cat(shown, dim=1)[:, : request.frames]
