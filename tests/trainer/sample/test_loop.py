"""The sampler against exact Gaussian denoisers, diffusers' schedulers, and bits of given frames."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
)
from torch import Tensor

from benchmarks.gaussian_clips import (
    UnitNoise,
    covariance_of,
    error,
    errors_at_ends,
    moving,
    perfect_sampler,
    smooth,
)
from shards import UsageError
from trainer.config import ProcessConfig, PyramidConfig
from trainer.process.build import build_process
from trainer.process.pyramid import NoiseInterval
from trainer.sample.loop import Sampler, noise_of
from trainer.sample.renoise import Renoise
from trainer.sample.schedule import Row, Schedule, schedule
from trainer.temporal.stages import Stage

PROCESSES = {
    "edm": ProcessConfig(),
    "flow": ProcessConfig(kind="flow"),
    "ddim": ProcessConfig(kind="ddim"),
    "velocity": ProcessConfig(kind="ddim", predicts="velocity", betas="linear"),
}
LAWS = {"smooth": smooth(16) / 4, "moving": moving(16) / 4, "odd": smooth(17) / 4}
PYRAMID, PLAIN = PyramidConfig(), PyramidConfig(enabled=False)
GENERATOR = torch.Generator


def times(slots: int) -> Tensor:
    return torch.arange(slots, dtype=torch.float64)


def errors(kind: str, law: str, renoise: Renoise) -> list[float]:
    """At the end of each stage, coarsest first; twenty of Heun's steps in each."""
    config = PROCESSES[kind]
    asked = perfect_sampler(LAWS[law], config, PYRAMID, heun=True, renoise=renoise)
    return errors_at_ends(asked, config, PYRAMID, 60)


@pytest.mark.parametrize(
    ("kind", "law"),
    [
        *(("edm", "smooth"), ("edm", "moving"), ("flow", "smooth"), ("flow", "moving")),
        *(("flow", "odd"), ("ddim", "smooth"), ("ddim", "odd"), ("velocity", "moving")),
    ],
)
def test_covariances_are_right_at_the_end_of_every_stage(kind: str, law: str) -> None:
    assert max(errors(kind, law, "paired")) < 0.02


@pytest.mark.parametrize("kind", ["edm", "flow", "ddim"])
def test_without_renoising_or_with_independent_noise_they_are_wrong(kind: str) -> None:
    """At the second stage by a third and more, where the right ones are within a fiftieth."""
    _, half, full = errors(kind, "moving", "none")
    assert half > 0.3
    assert full > 0.02
    _, half, full = errors(kind, "moving", "independent")
    assert min(half, full) > 0.4


@pytest.mark.parametrize(
    ("kind", "pyramid", "given"),
    [("flow", PLAIN, (5,)), ("edm", PLAIN, range(8)), ("velocity", PLAIN, (0, 15))]
    + [(kind, PYRAMID, given) for kind in ("edm", "flow", "velocity") for given in ((0, 12), (8,))],
)
def test_given_frames_are_exact_and_the_others_follow_the_conditional_law(
    kind: str, pyramid: PyramidConfig, given: tuple[int, ...]
) -> None:
    """DDIM with the betas that end near pure noise: Stable Diffusion's end at a level of 14.6, and
    what begins there as noise alone lacks 1/14.6 of its mean."""
    covariance = smooth(16)
    asked = perfect_sampler(covariance, PROCESSES[kind], pyramid, heun=True)
    rows = schedule(PROCESSES[kind], pyramid, 16, 60, given)
    noise = UnitNoise(70)
    clean = torch.randn(1, 16, 1, 1, 1, dtype=torch.float64, generator=GENERATOR().manual_seed(1))
    x = asked.sample(rows, noise, clean.expand(71, -1, -1, -1, -1))
    known = torch.zeros(16, dtype=torch.bool)
    known[list(given)] = True
    assert torch.equal(x[:, known], clean[:, known].expand(len(x), -1, -1, -1, -1))
    gain = covariance[~known][:, known] @ torch.linalg.inv(covariance[known][:, known])
    mean = (gain @ clean[0, known].flatten()).double()
    torch.testing.assert_close(x[-1, ~known].flatten(), mean, atol=0.02, rtol=0)  # without noise
    left = covariance[~known][:, ~known] - gain @ covariance[known][:, ~known]
    assert error(covariance_of(x)[~known][:, ~known], left) < 0.03


def level_rows(levels: list[float], slots: int = 1) -> Schedule:
    """Rows without a pyramid through some levels."""
    stage = Stage(number=1, stride=1, interval=NoiseInterval(end=0.0, start=math.inf))
    ends = pairwise(levels)
    none = np.zeros(slots, bool)
    return tuple(
        Row(
            stage=stage,
            here=np.full(slots, here),
            there=np.full(slots, there),
            given=none,
            renoise=False,
        )
        for here, there in ends
    )


def network(x: Tensor, conditioning: Tensor, time: Tensor, context: Any) -> Tensor:
    """Some answer, that depends on what it is told."""
    return torch.tanh(x * (1 + conditioning[:, :, None, None, None] / 1000))


def ours(config: ProcessConfig, rows: Schedule, start: Tensor, heun: bool = False) -> Tensor:
    asked = Sampler(network=network, process=build_process(config), time=times(1), heun=heun)
    return asked.sample(rows, lambda purpose, slots: start)


START = torch.randn(2, 1, 3, 4, 4, generator=GENERATOR().manual_seed(0))


@pytest.mark.parametrize("heun", [False, True])
def test_whole_trajectories_of_diffusers_flow_matching(heun: bool) -> None:
    kind = FlowMatchHeunDiscreteScheduler if heun else FlowMatchEulerDiscreteScheduler
    scheduler = kind(shift=3.0)
    scheduler.set_timesteps(6)
    x, levels = START, []
    for t in scheduler.timesteps:
        told = torch.full((2, 1), t.item())
        x = scheduler.step(network(x, told, times(1), None), t, x).prev_sample
    sigmas = scheduler.sigmas.double().tolist()
    sigmas = [*sigmas[:1], *sigmas[1:-1:2], 0.0] if heun else sigmas
    levels = [s / (1 - s) if s < 1 else math.inf for s in sigmas]
    found = ours(ProcessConfig(kind="flow", shift=3.0), level_rows(levels), START, heun)
    torch.testing.assert_close(found, x, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("predicts", ["noise", "velocity"])
def test_whole_trajectories_of_diffusers_ddim(predicts: Any) -> None:
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        timestep_spacing="trailing",
        prediction_type="epsilon" if predicts == "noise" else "v_prediction",
    )
    scheduler.set_timesteps(10)
    x = scheduler.init_noise_sigma * START
    for t in scheduler.timesteps:
        told = torch.full((2, 1), t.item())
        x = scheduler.step(network(x, told, times(1), None), t, x).prev_sample
    config = ProcessConfig(kind="ddim", predicts=predicts)
    found = ours(config, schedule(config, PLAIN, 1, 10), START)
    torch.testing.assert_close(found, x, atol=2e-4, rtol=1e-3)


def test_whole_trajectories_of_diffusers_edm() -> None:
    scheduler = EDMEulerScheduler()
    scheduler.set_timesteps(10)
    x = scheduler.init_noise_sigma * START
    for t in scheduler.timesteps:
        told = torch.full((2, 1), 100 * t.item())  # theirs is ln(σ)/4
        said = network(scheduler.scale_model_input(x, t), told, times(1), None)
        x = scheduler.step(said, t, x).prev_sample
    config = ProcessConfig()
    found = ours(config, schedule(config, PLAIN, 1, 10), START)
    torch.testing.assert_close(found, x, atol=1e-4, rtol=1e-4)


def test_edm_with_heun_is_algorithm_1_of_the_paper() -> None:
    config = ProcessConfig()
    process, rows = build_process(config), schedule(config, PLAIN, 1, 8)

    def denoised(x: Tensor, sigma: float) -> Tensor:
        total = math.sqrt(sigma**2 + 0.25)
        told = torch.full((2, 1), 25 * math.log(sigma))
        raw = network(x / total, told, times(1), None)
        return 0.25 / total**2 * x + sigma * 0.5 / total * raw

    x = math.sqrt(1 + 80.0**2) * START
    for row in rows:
        here, there = row.here.item(), row.there.item()
        slope = (x - denoised(x, here)) / here
        reached = x + (there - here) * slope
        if there:
            slope = (slope + (reached - denoised(reached, there)) / there) / 2
        x = x + (there - here) * slope
    found = ours(config, rows, START, heun=True)
    torch.testing.assert_close(found, x, atol=1e-4, rtol=1e-4)
    assert process.law.lowest == rows[-1].here.item()


def counted(config: ProcessConfig, rows: Schedule, heun: bool) -> int:
    calls = []

    def counting(*arguments: Any) -> Tensor:
        calls.append(1)
        return network(*arguments)

    asked = Sampler(network=counting, process=build_process(config), time=times(4), heun=heun)
    noise = noise_of((3, 2, 2), 0, [0], torch.device("cpu"))
    asked.sample(rows, noise, torch.zeros(1, 4, 3, 2, 2))
    return len(calls)


@pytest.mark.parametrize("bf16", [True, False])
def test_a_network_computes_in_bfloat16_where_that_is_asked_and_nowhere_else(bf16: bool) -> None:
    layer, said = torch.nn.Linear(4, 4), []

    def noting(x: Tensor, *_: Any) -> Tensor:
        said.append(layer(x))
        return said[-1]

    asked = Sampler(
        network=noting, process=build_process(PROCESSES["flow"]), time=times(1), bf16=bf16
    )
    clips = asked.sample(level_rows([2.0, 1.0, 0.0]), lambda purpose, slots: START)
    assert {x.dtype for x in said} == {torch.bfloat16 if bf16 else torch.float32}
    assert clips.dtype == torch.float32


def test_heun_asks_twice_a_step_but_for_the_last() -> None:
    config = PROCESSES["flow"]
    for given in ((), (0,)):
        rows = schedule(config, PLAIN, 4, 5, given)
        assert counted(config, rows, heun=False) == 5
        assert counted(config, rows, heun=True) == 9


def test_slots_that_reach_0_before_others_take_eulers_step_there() -> None:
    (row,) = level_rows([2.0, 0.0], 2)
    uneven = replace(row, there=np.array([0.0, 1.0]))
    process, time = build_process(PROCESSES["flow"]), times(2)
    start = START.expand(-1, 2, -1, -1, -1)

    def sampled(row: Row, heun: bool) -> Tensor:
        asked = Sampler(network=network, process=process, time=time, heun=heun)
        return asked.sample((row,), lambda purpose, slots: start)

    euler, heun = (sampled(uneven, solver) for solver in (False, True))
    assert torch.equal(heun[:, 0], euler[:, 0])
    assert torch.equal(heun[:, 0], sampled(row, heun=True)[:, 0])
    assert not torch.allclose(heun[:, 1], euler[:, 1])


def test_noise_is_of_the_position_and_the_purpose() -> None:
    config = PROCESSES["flow"]
    rows = schedule(config, PYRAMID, 8, 6)
    asked = Sampler(network=network, process=build_process(config), time=torch.arange(8.0))

    def at(*positions: int, seed: int = 0) -> Tensor:
        return asked.sample(rows, noise_of((3, 4, 4), seed, positions, torch.device("cpu")))

    together = at(5, 9)
    assert together.dtype == torch.float32
    torch.testing.assert_close(at(9), together[1:])
    assert not torch.allclose(at(5, seed=1), together[:1])
    noise = noise_of((3, 4, 4), 0, [5], torch.device("cpu"))
    assert not torch.equal(noise("start", 4), noise("stage 2", 4))


def test_networks_are_told_the_time_of_each_slot() -> None:
    told: list[list[float]] = []

    def noting(x: Tensor, conditioning: Tensor, time: Tensor, context: Any) -> Tensor:
        told.append(time.tolist())
        return torch.zeros_like(x)

    asked = Sampler(
        network=noting, process=build_process(PROCESSES["flow"]), time=torch.arange(9.0)
    )
    asked.sample(
        schedule(PROCESSES["flow"], PYRAMID, 9, 3), noise_of((1, 1, 1), 0, [0], torch.device("cpu"))
    )
    assert told == [[0, 4, 8], [0, 2, 4, 6, 8], list(range(9))]


class OneLevel:
    per_slot = False

    def __call__(self, x: Tensor, *_: Any) -> Tensor:
        return torch.zeros_like(x)


def test_a_network_of_one_level_a_clip_samples_but_is_given_nothing() -> None:
    config, noise = PROCESSES["flow"], noise_of((1, 2, 2), 0, [0], torch.device("cpu"))
    asked = Sampler(network=OneLevel(), process=build_process(config), time=torch.arange(4.0))
    assert asked.sample(schedule(config, PYRAMID, 4, 3), noise).shape == (1, 4, 1, 2, 2)
    clean = torch.zeros(1, 4, 1, 2, 2)
    with pytest.raises(UsageError, match="OneLevel takes one noise level for a whole clip"):
        asked.sample(schedule(config, PYRAMID, 4, 3, (0,)), noise, clean)
    asked = Sampler(network=network, process=build_process(config), time=torch.arange(4.0))
    with pytest.raises(ValueError, match=r"slots \[0\] are given, but no clips"):
        asked.sample(schedule(config, PYRAMID, 4, 3, (0,)), noise)
