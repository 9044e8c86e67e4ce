"""Clips of a normal law, whose exact denoiser is linear: what a perfect network would sample.

A sampler that follows it is a linear map of its noise. Run once on the unit vectors of that noise,
the sampler itself gives the exact covariance of what it samples: no draws, no tolerance for them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainer.config import ProcessConfig, PyramidConfig
from trainer.process.build import build_process
from trainer.process.ddim import STEPS, Ddim
from trainer.process.edm import Edm
from trainer.process.flow_matching import FlowMatching
from trainer.process.process import Process
from trainer.process.pyramid import NoiseInterval, hold
from trainer.sample.loop import Sampler
from trainer.sample.schedule import schedule
from trainer.temporal.stages import Stage, stages


def smooth(slots: int, memory: float = 0.9) -> Tensor:
    """The covariance of a first-order autoregression of unit variance."""
    at = torch.arange(slots, dtype=torch.float64)
    return memory ** (at[:, None] - at).abs()


def moving(slots: int) -> Tensor:
    """Of a place and a constant velocity, both normal, and a little of its own for each slot."""
    at = torch.linspace(-1, 1, slots, dtype=torch.float64)
    return 0.5 + 0.45 * at[:, None] * at + 0.05 * torch.eye(slots, dtype=torch.float64)


@dataclass(frozen=True)
class Perfect:
    """The network whose q is E[q | x] for pixels that are independent clips of N(0, covariance).

    It knows its stage by the time between slots, and its levels by the conditioning alone.

    Attributes:
        answers: F's own matrix, by stride and conditioning.
    """

    covariance: Tensor
    process: Process
    stages: Sequence[Stage]
    answers: dict[tuple[float, ...], Tensor] = field(default_factory=dict)

    def __call__(self, into_x: Tensor, conditioning: Tensor, time: Tensor, context: Any) -> Tensor:
        asked = (float(time[1] - time[0]), *conditioning[0].tolist())
        if asked not in self.answers:
            self.answers[asked] = self._answer(int(asked[0]), conditioning[:1])
        return torch.einsum("ij,bjchw->bichw", self.answers[asked], into_x)

    def _answer(self, stride: int, conditioning: Tensor) -> Tensor:
        """F = (q − skip·x)/out as a matrix on into·x; 0 for slots that are given."""
        stage = next(stage for stage in self.stages if stage.stride == stride)
        levels = level_of(conditioning, self.process)
        at = self.process.coefficients(levels)
        kept = self.covariance[::stride, ::stride]
        q = exact_q(kept, at.gamma[0], at.sigma[0], path(levels[0], stage.interval), stage)
        out = torch.where(at.out[0] == 0, torch.inf, at.out[0])
        return (q - torch.diag(at.skip[0])) / out[:, None] / at.into[0]


def level_of(conditioning: Tensor, process: Process) -> Tensor:
    """The levels that a network is told of; 0 from the least down that it need tell from 0."""
    if isinstance(process, Edm):
        levels = (conditioning / 25).exp()
    elif isinstance(process, FlowMatching):
        levels = conditioning / (1000 - conditioning)
    else:
        assert isinstance(process, Ddim)
        found = np.interp(conditioning.numpy(), np.arange(STEPS), process.law.rungs)
        levels = torch.from_numpy(found)
    return torch.where(levels > 1.001 * process.law.lowest, levels, 0.0)


def path(levels: Tensor, interval: NoiseInterval) -> Tensor:
    """M with m = M·D, each slot's τ its own; a given slot's m is its D."""
    slots = len(levels)
    held = holding(slots)
    if np.isinf(interval.start):
        return torch.eye(slots, dtype=torch.float64)
    tau = (levels - interval.end) / (interval.start - interval.end)
    tau = torch.where(levels == 0, 0.0, tau)[:, None]
    return (1 - tau) * torch.eye(slots, dtype=torch.float64) + tau * held


def holding(slots: int) -> Tensor:
    """The matrix of `hold`."""
    unit = torch.eye(slots, dtype=torch.float64)
    return hold(unit.T[:, :, None, None, None])[..., 0, 0, 0].T


def exact_q(covariance: Tensor, gamma: Tensor, sigma: Tensor, m: Tensor, stage: Stage) -> Tensor:
    """A with E[q | x] = A·x, for x = γ·M·D + σ·ε and q = (1 + c)·D − c·U."""
    c, slots = stage.interval.overshoot, len(gamma)
    unit = torch.eye(slots, dtype=torch.float64)
    aim = (1 + c) * unit - c * holding(slots)
    signal = gamma[:, None] * m
    noisy = signal @ covariance @ signal.T + torch.diag(sigma**2 + 1e-12)
    return torch.linalg.solve(noisy, signal @ covariance @ aim.T).T


def end_of(covariance: Tensor, process: Process, stage: Stage) -> Tensor:
    """The covariance of x at a stage's clean end: γ²·C + σ²."""
    kept = covariance[:: stage.stride, :: stage.stride]
    at = process.coefficients(torch.tensor([[stage.interval.end]], dtype=torch.float64))
    return at.gamma**2 * kept + at.sigma**2 * torch.eye(len(kept), dtype=torch.float64)


class UnitNoise:
    """Noise whose clip i is unit vector i of all the noise that is asked for; the last is 0."""

    def __init__(self, most: int) -> None:
        self.most, self.asked = most, 0

    def __call__(self, purpose: str, slots: int) -> Tensor:
        noise = torch.zeros(self.most + 1, slots, 1, 1, 1, dtype=torch.float64)
        for slot in range(slots):
            noise[self.asked + slot, slot] = 1.0
        self.asked += slots
        return noise


def perfect_sampler(
    covariance: Tensor, config: ProcessConfig, pyramid: PyramidConfig, **options: Any
) -> Sampler:
    """What samples clips of this law, with the options of `Sampler`."""
    process = build_process(config)
    network = Perfect(covariance, process, stages(pyramid))
    time = torch.arange(len(covariance), dtype=torch.float64)
    return Sampler(network=network, process=process, time=time, **options)


def errors_at_ends(
    sampler: Sampler, config: ProcessConfig, pyramid: PyramidConfig, steps: int
) -> list[float]:
    """Of the covariance of x at the end of each stage, coarsest first.

    Args:
        steps: of all stages together, a multiple of their number.
    """
    network = sampler.network
    assert isinstance(network, Perfect)
    rows = schedule(config, pyramid, len(network.covariance), steps)
    each = steps // len(network.stages)
    ends = list(sampler.follow(rows, UnitNoise(4 * len(network.covariance))))[each - 1 :: each]
    return [
        error(covariance_of(x), end_of(network.covariance, sampler.process, stage))
        for x, stage in zip(ends, reversed(network.stages), strict=True)
    ]


def covariance_of(x: Tensor) -> Tensor:
    """Of clips sampled from `UnitNoise`."""
    columns = (x - x[-1])[:-1].flatten(1)
    return columns.T @ columns


def error(found: Tensor, true: Tensor) -> float:
    """Relative, in Frobenius' norm."""
    return float((found - true).norm() / true.norm())
