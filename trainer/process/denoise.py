"""The denoising objective of one batch: EDM's, on a stage of the temporal pyramid."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.config import TrainConfig
from trainer.process.edm import Network, denoise, loss_weight, noise_like
from trainer.stream.batch import Batch
from trainer.temporal.stages import clean_estimate, noisy_mean, target


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Denoised:
    """What the network made of a batch.

    Attributes:
        recon: scalar, mean over samples of λ(σ)·mean‖prediction − target‖².
        clean: float32 [b, t, 3, h, w], the clean clips that the prediction stands for.
    """

    recon: Tensor
    clean: Tensor


def denoise_batch(network: Network, batch: Batch, config: TrainConfig) -> Denoised:
    """Noise the batch to its levels and let the network restore it.

    Any network with the call of `model.SpaceTimeTransformer` fits. The batch is on its device.
    """
    stage, sigma, device = batch.stage, batch.sigma, batch.frames.device
    clips = batch.clean()
    noise = noise_like(clips, config.seed, batch.positions)
    noisy = noisy_mean(clips, sigma, stage) + sigma.view(-1, 1, 1, 1, 1) * noise
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        prediction = denoise(network, noisy, sigma, batch.time.to(device), config.noise.sigma_data)
    error = (prediction - target(clips, stage)).square().mean(dim=(1, 2, 3, 4))
    recon = (loss_weight(sigma, config.noise.sigma_data) * error).mean()
    return Denoised(recon=recon, clean=clean_estimate(prediction, stage))
