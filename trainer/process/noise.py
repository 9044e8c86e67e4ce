"""Noise that belongs to a sample: a function of the seed and of its position."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from shards import fold


def noise_like(
    clips: Float[Tensor, "*shape"], seed: int, positions: Iterable[int], purpose: str = "noise"
) -> Float[Tensor, "*shape"]:
    """Unit normal noise in the shape of clips, each sample's a function of (seed, its position,
    the purpose).

    Drawn on the clips' device: the same on every machine with that kind of device.
    """
    noise = torch.empty_like(clips)
    for row, position in zip(noise, positions, strict=True):
        generator = torch.Generator(clips.device)
        generator.manual_seed(fold(seed, position, purpose))
        row.normal_(generator=generator)
    return noise
