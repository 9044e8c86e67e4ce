"""Clips as asked for: in windows where they are long, with frames given, whatever the company."""

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from shards import UsageError
from trainer.codec.codec import FrameRule
from trainer.codec.pixels import Pixels, to_signal, to_unit
from trainer.config import ProcessConfig, PyramidConfig, StreamConfig, TrainConfig
from trainer.process.build import build_process
from trainer.sample.loop import Sampler
from trainer.sample.request import Request, fulfil, plan, usual

PYRAMID = TrainConfig(stream=StreamConfig(frames=8), process=ProcessConfig(kind="flow"))
PLAIN = replace(PYRAMID, pyramid=PyramidConfig(enabled=False))
SIZE, RULE = (2, 2), Pixels().rule


def network(x: Tensor, conditioning: Tensor, time: Tensor, context: Any) -> Tensor:
    """Each slot's answer depends on all slots."""
    return torch.tanh(x + x.mean(dim=1, keepdim=True))


def sampler(config: TrainConfig) -> Sampler:
    return Sampler(network=network, process=build_process(config.process), time=torch.arange(8.0))


def made(config: TrainConfig, request: Request, *positions: int, given: Any = None) -> Tensor:
    given = given or {}
    plans = plan(config, RULE, request, given)
    return fulfil(sampler(config), Pixels(), plans, request, positions, given, SIZE)


def test_usual_clips_are_the_trainings_and_windows_share_what_every_stage_has() -> None:
    assert usual(PYRAMID, RULE) == Request(frames=8, steps=30, overlap=1, seed=0)
    assert usual(PLAIN, RULE).overlap == 4
    assert usual(PLAIN, FrameRule(factor=4, step=4)).overlap == 1


@pytest.mark.parametrize(("config", "overlap"), [(PLAIN, 4), (PYRAMID, 1)])
def test_long_clips_begin_as_short_ones_and_each_window_goes_on_from_the_one_before(
    config: TrainConfig, overlap: int
) -> None:
    short = Request(frames=8, steps=3, overlap=overlap, seed=7)
    first = made(config, short, 0, 1)
    long = made(config, replace(short, frames=21), 0, 1)
    assert long.shape == (2, 21, 3, *SIZE)
    assert torch.equal(long[:, :8], first)
    second = long[:, 8 - overlap : 16 - overlap]
    given = {slot: second[0, slot] for slot in range(overlap)}
    other_noise = made(config, short, 0, given=given)
    assert torch.equal(other_noise[0, :overlap], second[0, :overlap])
    assert not torch.equal(other_noise[0, overlap:], second[0, overlap:])  # of its own noise
    assert not torch.equal(second[0, 1:], first[0, 1:])


def test_a_clip_is_the_same_in_any_company() -> None:
    request = Request(frames=12, steps=3, overlap=4, seed=0)
    alone, together = made(PLAIN, request, 3).int(), made(PLAIN, request, 1, 3)[1:].int()
    assert (alone - together).abs().max() <= 1  # rounding to 8 bits


def test_given_frames_are_in_the_first_window_to_the_last_bit() -> None:
    known = {4: torch.randint(256, (3, *SIZE), dtype=torch.uint8)}
    clips = made(PYRAMID, Request(frames=15, steps=3, overlap=1, seed=0), 0, 1, given=known)
    assert torch.equal(clips[:, 4], known[4].expand(2, -1, -1, -1))


def test_each_step_is_told() -> None:
    told = []
    request = Request(frames=12, steps=3, overlap=4, seed=0)
    plans = plan(PLAIN, RULE, request, ())
    fulfil(sampler(PLAIN), Pixels(), plans, request, [0], {}, SIZE, lambda: told.append(1))
    assert len(told) == sum(map(len, plans)) == 6


def test_what_cannot_be_is_refused_before_anything_is_sampled() -> None:
    request = Request(frames=12, steps=3, overlap=4, seed=0)
    with pytest.raises(UsageError, match=r"overlap is 4; frame 1 of a window cannot be given"):
        plan(PYRAMID, RULE, request, ())
    with pytest.raises(UsageError, match="overlap is 8; windows of 8 frames share 1 to 7"):
        plan(PLAIN, RULE, replace(request, overlap=8), ())
    with pytest.raises(UsageError, match="frame 9 cannot be given: clips have frames 0 to 7"):
        plan(PLAIN, RULE, request, (9,))
    with pytest.raises(UsageError, match="frames is 0"):
        plan(PLAIN, RULE, replace(request, frames=0), ())


@dataclass(frozen=True)
class Fourfold:
    """A latent of four frames: their mean, at half of the height and width."""

    rule = FrameRule(factor=4, step=4)
    channels = 3
    spatial = 2

    def encode(self, frames: Tensor) -> Tensor:
        small = to_signal(frames)[..., ::2, ::2]
        rest = small[:, 1:].unflatten(1, (-1, 4)).mean(2) if frames.shape[1] > 1 else small[:, 1:]
        return torch.cat([small[:, :1], rest], dim=1)

    def decode(self, latents: Tensor) -> Tensor:
        large = to_unit(latents).repeat_interleave(2, -1).repeat_interleave(2, -2)
        return torch.cat([large[:, :1], large[:, 1:].repeat_interleave(4, 1)], dim=1)


def test_where_frames_share_a_latent_the_first_can_be_given() -> None:
    config = replace(PYRAMID, stream=StreamConfig(frames=17))
    codec, size = Fourfold(), (4, 4)
    times = torch.tensor(codec.rule.first_frames(17), dtype=torch.float32)
    asked = Sampler(network=network, process=build_process(config.process), time=times)
    request = replace(usual(config, codec.rule), steps=3, frames=40)
    picture = torch.full((3, *size), 200, dtype=torch.uint8)
    plans = plan(config, codec.rule, request, [0])
    assert [len(row.here) for row in plans[0]] == [2, 3, 5]  # of 5, 9 and 17 frames
    clips = fulfil(asked, codec, plans, request, [0, 1], {0: picture}, size)
    assert clips.shape == (2, 40, 3, *size)
    assert torch.equal(clips[:, 0], picture.expand(2, -1, -1, -1))
    with pytest.raises(UsageError, match="frame 4 cannot be given: frame 0 alone has"):
        plan(config, codec.rule, request, [4])
    with pytest.raises(UsageError, match="frame 0 cannot be given: no frame of this codec"):
        plan(config, replace(codec.rule, exact_first=False), request, [0])
    with pytest.raises(UsageError, match="overlap is 5; frame 1 of a window cannot be given"):
        plan(config, codec.rule, replace(request, overlap=5), [])
    with pytest.raises(UsageError, match="clip of 15 frames does not suit the codec"):
        plan(config, codec.rule, replace(request, frames=15), [])
