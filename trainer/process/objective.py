"""The denoising objective: EDM's, on a stage of the temporal pyramid."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from trainer.process.edm import Network, denoise, loss_weight
from trainer.process.pyramid import (
    Clips,
    Levels,
    NoiseInterval,
    Times,
    clean_estimate,
    noisy_mean,
    target,
)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Reconstruction:
    """What a network made of noisy clips.

    Attributes:
        loss: mean over samples and slots of λ(σ)·mean‖prediction − target‖².
        clean: the clean clips that the prediction stands for.
    """

    loss: Float[Tensor, ""]
    clean: Float32[Tensor, "b t c h w"]


def reconstruct(
    network: Network,
    clips: Clips,
    noise: Clips,
    levels: Levels,
    time: Times,
    interval: NoiseInterval,
    sigma_data: float,
) -> Reconstruction:
    """Noise clips to their levels and let the network restore them.

    Args:
        network: any with the call of `model.SpaceTimeTransformer`; in bfloat16 on a GPU.
        noise: unit normal.
        interval: noise levels of the clips' pyramid stage.
        sigma_data: standard deviation of clean clips.
    """
    noisy = noisy_mean(clips, levels, interval) + levels[:, :, None, None, None] * noise
    device = clips.device.type
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        prediction = denoise(network, noisy, levels, time, sigma_data)
    squares = (prediction - target(clips, interval)).square()
    # Slots weigh in relative to their sample's heaviest: a row of equal levels multiplies by
    # exactly 1 and then by its one weight.
    weight = loss_weight(levels, sigma_data)
    heaviest = weight.amax(dim=1)
    relative = (weight / heaviest[:, None])[:, :, None, None, None]
    loss = (heaviest * (relative * squares).mean(dim=(1, 2, 3, 4))).mean()
    return Reconstruction(loss=loss, clean=clean_estimate(prediction, interval))
