"""Clips of a model, while it trains or after."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from jaxtyping import UInt8
from torch import Tensor

from trainer import Conditioner, Context, build_process
from trainer.config import TrainConfig
from trainer.run.restore import Trained
from trainer.sample.loop import Sampler
from trainer.sample.request import Picture, Request, fulfil, plan, usual

_AT_ONCE = 8  # clips
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wish:
    """What is wanted of a model.

    Attributes:
        count: clips to make.
        request: how long, in how many steps; None: the usual.
        given: pictures that frames are known to be.
        prompts: texts, taken in turn.
        labels: classes, taken in turn; None: none.
        guidance: scale of classifier-free guidance; 1 is without.
        heun: steps of the second order; else Euler's.
    """

    count: int
    request: Request | None = None
    given: Mapping[int, Picture]
    prompts: tuple[str, ...] = ()
    labels: tuple[int | None, ...] = ()
    guidance: float = 1.0
    heun: bool = True


def evaluations(config: TrainConfig, trained: Trained, wish: Wish) -> int:
    """How often `sample_clips` will call its `progress`."""
    request = wish.request or usual(config, trained.codec.rule)
    plans = plan(config, trained.codec.rule, request, wish.given)
    return -(-wish.count // _AT_ONCE) * sum(map(len, plans))


def sample_clips(
    config: TrainConfig,
    size: tuple[int, int],
    trained: Trained,
    wish: Wish,
    progress: Callable[[], None] = lambda: None,
) -> UInt8[Tensor, "b t 3 h w"]:
    """Clips of a model; each is a function of the request's seed and its number.

    Args:
        config: of the training.
        size: height and width.
        progress: called after each step.

    Raises:
        UsageError: the model cannot make such clips.
    """
    request = wish.request or usual(config, trained.codec.rule)
    plans = plan(config, trained.codec.rule, request, wish.given)
    device = next(trained.network.parameters()).device
    times = trained.codec.rule.first_frames(config.stream.frames)
    sampler = Sampler(
        network=trained.network,
        process=build_process(config.process),
        time=torch.tensor(times, dtype=torch.float32, device=device),
        guidance=wish.guidance,
        heun=wish.heun,
        bf16=config.in_bf16(device.type),
    )
    clips = []
    for first in range(0, wish.count, _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, wish.count))
        told = replace(sampler, context=context_of(trained.conditioner, config, wish, numbers))
        found = fulfil(told, trained.codec, plans, request, numbers, wish.given, size, progress)
        clips.append(found.cpu())
    return torch.cat(clips)


def context_of(
    conditioner: Conditioner, config: TrainConfig, wish: Wish, numbers: Sequence[int]
) -> Context | None:
    """What the network is told of clips by their numbers; None if it is told nothing ever."""
    texts = in_turn(wish.prompts or ("",), numbers)
    labels, unsaid = in_turn(wish.labels or (None,), numbers), [None] * len(numbers)
    columns: dict[str, list[Any]] = {
        name: labels if name == config.conditioning.labels else unsaid
        for name in conditioner.columns
    }
    return conditioner(texts, columns, [True] * len(texts))


def in_turn(values: Sequence[T], numbers: Sequence[int]) -> list[T]:
    """The value of each number: after the last comes the first again."""
    return [values[number % len(values)] for number in numbers]
