"""The denoising objective: a process's own regression, on a stage of the temporal pyramid."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from trainer.process.process import Network, Process, denoise, each
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
        loss: mean over samples and slots of mean‖q − target‖²/out², which is the squared error of
            what the network itself says: EDM's λ(σ)-weighted loss, that of a velocity, or of ε.
        each: of each sample, detached.
        clean: the clean clips that the prediction stands for.
    """

    loss: Float[Tensor, ""]
    each: Float[Tensor, " b"]
    clean: Float32[Tensor, "b t c h w"]


def reconstruct(
    process: Process,
    network: Network,
    clips: Clips,
    noise: Clips,
    levels: Levels,
    time: Times,
    interval: NoiseInterval,
    context: Any = None,
    share: Levels | None = None,
) -> Reconstruction:
    """Noise clips to their levels and let the network restore them.

    Slots of level 0 are given, not learned: they count for nothing.

    Args:
        network: any with the call of `model.SpaceTimeTransformer`.
        noise: unit normal.
        levels: on the clips' device.
        interval: noise levels of the clips' pyramid stage.
        context: what the network is told beside the levels.
        share: of the loss that counts, in each slot; all of it if not given.
    """
    at = process.coefficients(levels)
    noisy = each(at.gamma) * noisy_mean(clips, levels, interval) + each(at.sigma) * noise
    prediction = denoise(network, noisy, at, time, context)
    squares = (prediction - target(clips, interval)).square()
    if share is not None:
        squares = each(share) * squares
    losses = weighted_mean(squares, 1 / at.out**2)
    clean = torch.where(each(levels > 0), clean_estimate(prediction, interval), clips)
    return Reconstruction(loss=losses.mean(), each=losses.detach(), clean=clean)


def weighted_mean(
    squares: Float[Tensor, "b t c h w"], weight: Float[Tensor, "b t"]
) -> Float[Tensor, " b"]:
    """Mean over each sample of weight·squares; a slot of infinite weight counts for nothing.

    Slots weigh in relative to their sample's heaviest: a row of equal levels multiplies by exactly
    1 and then by its one weight.
    """
    weight = torch.where(weight.isinf(), 0.0, weight)
    heaviest = weight.amax(dim=1)
    relative = each(weight / torch.where(heaviest > 0, heaviest, 1.0)[:, None])
    return heaviest * (relative * squares).mean(dim=(1, 2, 3, 4))
