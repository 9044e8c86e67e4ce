"""EDM: preconditioning, loss weight, noise levels (Karras et al. 2022, arXiv 2206.00364, table 1).

Every random number belongs to one sample and one purpose: it is a function of (seed, position,
purpose), never of a worker, a rank or a batch.
"""

import math
from collections.abc import Callable, Iterable
from statistics import NormalDist

import torch
from torch import Tensor

from shards.order import fold

Network = Callable[[Tensor, Tensor, Tensor], Tensor]


def loss_weight(sigma: Tensor, sigma_data: float) -> Tensor:
    """λ(σ) = (σ² + σ_d²)/(σ·σ_d)², which gives every noise level the same initial loss."""
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


def denoise(
    network: Network, noisy: Tensor, sigma: Tensor, time: Tensor, sigma_data: float
) -> Tensor:
    """D(x; σ) = c_skip·x + c_out·F(c_in·x; c_noise), in float32 whatever the network computes in.

    Args:
        network: F(x [b, t, c, h, w], c_noise [b], time [t]) of the same shape as x.
        noisy: [b, t, c, h, w]; sigma: [b]; time: [t], when each slot is shown, in stored frames.
    """
    total = (sigma**2 + sigma_data**2).sqrt()
    c_skip, c_out, c_in = sigma_data**2 / total**2, sigma * sigma_data / total, 1 / total
    c_noise = sigma.log() / 4
    raw = network(_each(c_in) * noisy, c_noise, time).float()
    return _each(c_skip) * noisy + _each(c_out) * raw


def draw_sigma(uniform: float, prior: NormalDist, low: float, high: float) -> float:
    """A noise level from the log-normal prior cut to (low, high], by inverse distribution.

    Args:
        uniform: random number in [0, 1).
        prior: distribution of ln σ.
    """
    below = prior.cdf(math.log(low)) if low > 0 else 0.0
    above = prior.cdf(math.log(high))
    share = below + (1 - uniform) * (above - below)  # 1 - uniform is in (0, 1]
    share = min(max(share, 1e-12), 1 - 1e-12)  # inv_cdf wants the open interval
    return min(max(math.exp(prior.inv_cdf(share)), low), high)


def noise_like(clips: Tensor, seed: int, positions: Iterable[int]) -> Tensor:
    """Unit normal noise in the shape of clips [b, ...], each sample's from its own position.

    Drawn on the clips' device: the same on every machine with that kind of device.
    """
    noise = torch.empty_like(clips)
    for row, position in zip(noise, positions, strict=True):
        generator = torch.Generator(clips.device)
        generator.manual_seed(fold(seed, position, "noise"))
        row.normal_(generator=generator)
    return noise


def _each(value: Tensor) -> Tensor:
    """[b] shaped to multiply [b, t, c, h, w]."""
    return value.view(-1, 1, 1, 1, 1)
