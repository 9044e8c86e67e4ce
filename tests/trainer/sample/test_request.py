"""Clips as asked for: in windows where they are long, with frames given, whatever the company."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from shards import UsageError
from trainer.config import ProcessConfig, PyramidConfig, StreamConfig, TrainConfig
from trainer.process.build import build_process
from trainer.sample.loop import Sampler
from trainer.sample.request import Request, fulfil, plan, usual

PYRAMID = TrainConfig(stream=StreamConfig(frames=8), process=ProcessConfig(kind="flow"))
PLAIN = replace(PYRAMID, pyramid=PyramidConfig(enabled=False))
SHAPE = (1, 2, 2)


def network(x: Tensor, conditioning: Tensor, time: Tensor, context: Any) -> Tensor:
    """Each slot's answer depends on all slots."""
    return torch.tanh(x + x.mean(dim=1, keepdim=True))


def sampler(config: TrainConfig) -> Sampler:
    return Sampler(network=network, process=build_process(config.process), time=torch.arange(8.0))


def made(config: TrainConfig, request: Request, *positions: int, given: Any = None) -> Tensor:
    given = given or {}
    plans = plan(config, request, tuple(given))
    return fulfil(sampler(config), plans, request, positions, SHAPE, given)


def test_usual_clips_are_the_trainings_and_windows_share_what_every_stage_has() -> None:
    assert usual(PYRAMID) == Request(frames=8, steps=30, overlap=1, seed=0)
    assert usual(PLAIN).overlap == 4


@pytest.mark.parametrize(("config", "overlap"), [(PLAIN, 4), (PYRAMID, 1)])
def test_long_clips_begin_as_short_ones_and_each_window_goes_on_from_the_one_before(
    config: TrainConfig, overlap: int
) -> None:
    short = Request(frames=8, steps=3, overlap=overlap, seed=7)
    first = made(config, short, 0, 1)
    long = made(config, replace(short, frames=21), 0, 1)
    assert long.shape == (2, 21, *SHAPE)
    torch.testing.assert_close(long[:, :8], first, rtol=0, atol=0)
    second = long[:, 8 - overlap : 16 - overlap]
    given = {slot: second[0, slot] for slot in range(overlap)}
    other_noise = made(config, short, 0, given=given)
    assert torch.equal(other_noise[0, :overlap], second[0, :overlap])
    assert not torch.allclose(other_noise[0, overlap:], second[0, overlap:])  # of its own noise
    assert not torch.allclose(second[0, 1:], first[0, 1:])


def test_a_clip_is_the_same_in_any_company() -> None:
    request = Request(frames=12, steps=3, overlap=4, seed=0)
    torch.testing.assert_close(made(PLAIN, request, 3), made(PLAIN, request, 1, 3)[1:])


def test_given_frames_are_in_the_first_window_to_the_last_bit() -> None:
    known = {4: torch.randn(SHAPE)}
    clips = made(PYRAMID, Request(frames=15, steps=3, overlap=1, seed=0), 0, 1, given=known)
    assert torch.equal(clips[:, 4], known[4].expand(2, *SHAPE))


def test_each_step_is_told() -> None:
    told = []
    request = Request(frames=12, steps=3, overlap=4, seed=0)
    plans = plan(PLAIN, request, ())
    fulfil(sampler(PLAIN), plans, request, [0], SHAPE, {}, lambda: told.append(1))
    assert len(told) == sum(map(len, plans)) == 6


def test_what_cannot_be_is_refused_before_anything_is_sampled() -> None:
    request = Request(frames=12, steps=3, overlap=4, seed=0)
    with pytest.raises(UsageError, match=r"overlap is 4; the coarsest stage.*every 4th frame"):
        plan(PYRAMID, request, ())
    with pytest.raises(UsageError, match="overlap is 8; windows of 8 frames share 1 to 7"):
        plan(PLAIN, replace(request, overlap=8), ())
    with pytest.raises(UsageError, match="frame 9 cannot be given: clips have frames 0 to 7"):
        plan(PLAIN, request, (9,))
    with pytest.raises(UsageError, match="frames is 0"):
        plan(PLAIN, replace(request, frames=0), ())
