"""How FlowLoss weighs noise levels and pixels (arXiv 2504.14535; EDM's λ for any σ_d)."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from trainer.config import FlowLossConfig


def sigma_weight(
    sigma: Float[Tensor, "*shape"], config: FlowLossConfig, sigma_data: float = 1.0
) -> Float[Tensor, "*shape"]:
    """w(σ)·λ(σ) below the gate ψ; exactly 0 from ψ on, and at 0, where the model is given all.

    λ = (σ² + σ_d²)/(σ·σ_d)², and w of "added" and "w_ss" is σ_d²/(σ² + σ_d²): 1/σ², for every σ_d,
    which stops growing at `sigma_floor`. That of "w_ls" is σ²/(σ² + σ_d²): 1/σ_d².
    """
    gate = (sigma > 0) & (sigma < config.psi)
    if config.balance == "w_ls":
        return gate / sigma.new_full(sigma.shape, sigma_data**2)
    return gate / sigma.clamp(min=config.sigma_floor) ** 2


def reconstruction_share(
    levels: Float[Tensor, "*shape"], config: FlowLossConfig, sigma_data: float
) -> Float[Tensor, "*shape"] | None:
    """1 − w(σ), what "w_ss" and "w_ls" leave of the reconstruction's weight; None: all of it.

    From the gate on w is 0, because motion is not compared there.
    """
    if config.balance == "added" or config.weight == 0:
        return None
    signal, noise = sigma_data**2, levels**2
    share = (noise if config.balance == "w_ss" else signal) / (noise + signal)
    return torch.where(levels < config.psi, share, 1.0)


def pixel_weight(
    visible: Bool[Tensor, "n h w"], hops: Int64[Tensor, " n"], config: FlowLossConfig
) -> Float[Tensor, "n h w"]:
    """o of each pixel of each pair.

    1 where visible; elsewhere `occluded_weight` if the flow is stored as it is, and 0 if it is
    composed, because a chain carries no motion through an occlusion. 0 for unsupervised pairs.
    """
    elsewhere = config.occluded_weight * (hops == 1)
    weight = torch.where(visible, 1.0, elsewhere[:, None, None])
    return weight * (hops > 0)[:, None, None]
