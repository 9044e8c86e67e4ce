"""EDM: preconditioning, loss weight, noise levels (Karras et al. 2022, arXiv 2206.00364, table 1).

Noise levels are [b, t], one for each slot; a level of a whole clip is a row of equal values.
"""

import math
from collections.abc import Callable, Iterable
from statistics import NormalDist

import torch
from jaxtyping import Float
from torch import Tensor

from shards import fold
from trainer.process.pyramid import Clips, Levels, NoiseInterval, Times

Network = Callable[[Tensor, Tensor, Tensor], Tensor]
"""F(x [b, t, c, h, w], c_noise [b, t], time [t]) of the shape of x."""


def loss_weight(levels: Float[Tensor, "*shape"], sigma_data: float) -> Float[Tensor, "*shape"]:
    """λ(σ) = (σ² + σ_d²)/(σ·σ_d)², which gives every noise level the same initial loss."""
    return (levels**2 + sigma_data**2) / (levels * sigma_data) ** 2


def denoise(
    network: Network, noisy: Clips, levels: Levels, time: Times, sigma_data: float
) -> Clips:
    """D(x; σ) = c_skip·x + c_out·F(c_in·x; c_noise), in float32 whatever the network computes in.

    Args:
        sigma_data: standard deviation of clean clips.
    """
    total = (levels**2 + sigma_data**2).sqrt()
    c_skip, c_out, c_in = sigma_data**2 / total**2, levels * sigma_data / total, 1 / total
    c_noise = levels.log() / 4
    raw = network(_each(c_in) * noisy, c_noise, time).float()
    return _each(c_skip) * noisy + _each(c_out) * raw


def level_at(share: float, prior: NormalDist, interval: NoiseInterval) -> float:
    """The noise level that `share` of the log-normal prior, cut to the interval, lies above.

    The inverse of its distribution: uniform shares give levels that follow it.

    Args:
        share: in [0, 1).
        prior: distribution of ln σ.
    """
    below = prior.cdf(math.log(interval.end)) if interval.end > 0 else 0.0
    above = prior.cdf(math.log(interval.start))
    total = below + (1 - share) * (above - below)  # 1 - share is in (0, 1]
    total = min(max(total, 1e-12), 1 - 1e-12)  # inv_cdf wants the open interval
    return min(max(math.exp(prior.inv_cdf(total)), interval.end), interval.start)


def noise_like(
    clips: Float[Tensor, "*shape"], seed: int, positions: Iterable[int]
) -> Float[Tensor, "*shape"]:
    """Unit normal noise in the shape of clips, each sample's a function of (seed, its position).

    Drawn on the clips' device: the same on every machine with that kind of device.
    """
    noise = torch.empty_like(clips)
    for row, position in zip(noise, positions, strict=True):
        generator = torch.Generator(clips.device)
        generator.manual_seed(fold(seed, position, "noise"))
        row.normal_(generator=generator)
    return noise


def _each(value: Tensor) -> Tensor:
    """[b, t] shaped to multiply [b, t, c, h, w]."""
    return value[:, :, None, None, None]
