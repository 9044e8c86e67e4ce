import math

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from trainer.config import ProcessConfig
from trainer.process.build import build_process
from trainer.process.process import Process
from trainer.process.solver import change

PROCESSES = {
    "edm": ProcessConfig(),
    "flow": ProcessConfig(kind="flow"),
    "ddim": ProcessConfig(kind="ddim"),
    "velocity": ProcessConfig(kind="ddim", predicts="velocity"),
}


def row(level: float) -> Tensor:
    return torch.full((1, 1), level, dtype=torch.float64)


def euler(process: Process, x: Tensor, q: Tensor, here: float, there: float) -> Tensor:
    at = process.coefficients(row(here))
    return x + change(x, q, at, process.coefficients(row(there)), at)


def values(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 1, 1, 2, 2, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("kind", PROCESSES)
def test_with_the_true_clip_a_step_of_any_length_is_exact(kind: str) -> None:
    process, clean, noise = build_process(PROCESSES[kind]), values(0), values(1)
    high = min(process.law.highest, 80.0)
    for here, there in ((high, 0.3), (0.3, 0.02), (2.0, 0.0)):
        start, end = (process.coefficients(row(level)) for level in (here, there))
        x = start.gamma * clean + start.sigma * noise
        arrived = euler(process, x, clean, here, there)
        torch.testing.assert_close(arrived, end.gamma * clean + end.sigma * noise)


def test_flow_matching_begins_at_pure_noise() -> None:
    process, clean, noise = build_process(PROCESSES["flow"]), values(0), values(1)
    torch.testing.assert_close(euler(process, noise, clean, math.inf, 1.0), (clean + noise) / 2)


def test_it_is_the_step_of_diffusers_ddim() -> None:
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
    )
    scheduler.set_timesteps(10)
    process, x, said = build_process(PROCESSES["ddim"]), values(0), values(1)
    kept = scheduler.alphas_cumprod.double()
    rho = ((1 - kept) / kept).sqrt()
    for now in (900, 500, 100):
        theirs = scheduler.step(said, now, x).prev_sample
        q = x / kept[now].sqrt() - rho[now] * said
        ours = euler(process, x, q, rho[now].item(), rho[now - 100].item())
        torch.testing.assert_close(ours, theirs.double(), rtol=1e-5, atol=1e-6)


def test_it_is_the_step_of_diffusers_flow_matching() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(5)
    process, x, velocity = build_process(PROCESSES["flow"]), values(0).float(), values(1).float()
    sigmas = scheduler.sigmas.double().tolist()
    for now, t in enumerate(scheduler.timesteps):
        theirs = scheduler.step(velocity, t, x).prev_sample
        level, lower = (s / (1 - s) if s < 1 else math.inf for s in sigmas[now : now + 2])
        at, to = (process.coefficients(row(value).float()) for value in (level, lower))
        torch.testing.assert_close(x + change(x, x - sigmas[now] * velocity, at, to, at), theirs)
        x = theirs


def test_slots_that_stay_or_are_clean_do_not_move() -> None:
    process, x = build_process(PROCESSES["edm"]), torch.randn(1, 3, 1, 2, 2)
    here = process.coefficients(torch.tensor([[0.0, 2.0, 2.0]]))
    there = process.coefficients(torch.tensor([[0.0, 2.0, 1.0]]))
    moved = x + change(x, torch.randn_like(x), here, there, here)
    assert torch.equal(moved[:, :2], x[:, :2])
    assert not torch.equal(moved[:, 2], x[:, 2])


def test_the_mean_of_both_ends_is_of_second_order() -> None:
    """Beside Euler's step, of the first order, Heun's is off by a small part."""
    process = build_process(PROCESSES["edm"])
    x, here, there = values(0), process.coefficients(row(1.2)), process.coefficients(row(1.0))

    def answer(x: Tensor, level: float) -> Tensor:
        return x / (1 + level**2)  # the exact denoiser of unit normal data

    first = change(x, answer(x, 1.2), here, there, here)
    second = change(x + first, answer(x + first, 1.0), here, there, there)
    exact = x * math.sqrt(2 / 2.44)
    heun = (x + (first + second) / 2 - exact).abs().max()
    assert heun < 0.25 * (x + first - exact).abs().max()
