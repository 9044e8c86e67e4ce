"""The feature network of FVD, which the user brings: a number by another one would be no FVD."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64
from torch import Tensor

from flow_cache.estimators.weights import sha256
from shards import UsageError
from trainer.metrics.differences import Clips

HUB = "hub:"
STYLEGAN_V = {"rescale": False, "resize": False, "return_features": True}
"""How the I3D of StyleGAN-V's code (i3d_torchscript.pt), the usual one, is called."""
I3D_SIDE = 224


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FeatureNetwork:
    """A network and how it is called.

    Attributes:
        name: what it is, for tables: FVD of different networks do not compare.
        network: clips [b, 3, t, h, w] to [b, d].
        is_i3d: takes 224 pixels a side in [-1, 1] and says features where it is told to; all others
            take [0, 1] as it comes, and whatever they need of it is inside.
    """

    name: str
    network: Callable[..., Tensor]
    is_i3d: bool = False

    @torch.no_grad()
    def __call__(self, frames: Clips) -> Float64[np.ndarray, "b d"]:
        """The features of clips."""
        clips = frames.transpose(1, 2)
        if self.is_i3d:
            found = self.network(2 * _square(clips) - 1, **STYLEGAN_V)
        else:
            found = self.network(clips)
        return found.flatten(1).double().cpu().numpy()


def load_features(where: str, device: torch.device | str = "cpu") -> FeatureNetwork:
    """The network that a user names.

    Args:
        where: a TorchScript file, or `hub:OWNER/REPO:ENTRY` (or `hub:FOLDER:ENTRY`) for
            `torch.hub.load`, which runs that repository's code.

    Raises:
        UsageError: none is named, or it cannot be loaded.
    """
    if not where:
        raise UsageError(
            "FVD needs a feature network, and this package brings none: name a TorchScript file "
            "with --fvd-network PATH (the usual one is i3d_torchscript.pt of StyleGAN-V's code) or "
            "an entry of torch hub with --fvd-network hub:OWNER/REPO:ENTRY"
        )
    if where.startswith(HUB):
        network = _from_hub(where).eval().to(device)
        return FeatureNetwork(name=where, network=network)
    network = _from_file(where, device)
    arguments = {argument.name for argument in network.forward.schema.arguments}
    name = f"{Path(where).name} {sha256(Path(where))[:12]}"
    return FeatureNetwork(name=name, network=network, is_i3d=arguments >= STYLEGAN_V.keys())


def _from_file(where: str, device: torch.device | str) -> Any:
    try:
        return torch.jit.load(where, map_location=device).eval()
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"{where} cannot be read as a TorchScript file, which --fvd-network needs "
            f"({str(error).splitlines()[0]}): save the network with torch.jit.script or trace"
        ) from error


def _from_hub(where: str) -> torch.nn.Module:
    repository, _, entry = where.removeprefix(HUB).rpartition(":")
    source = "local" if Path(repository).is_dir() else "github"
    try:
        return torch.hub.load(repository, entry, source=source, trust_repo=True, verbose=False)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise UsageError(
            f"torch hub has no network {where!r} ({error}): it is hub:OWNER/REPO:ENTRY, and is "
            "fetched once, with network access"
        ) from error


def _square(clips: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b 3 t 224 224"]:
    """The shorter side scaled to 224 pixels, and the middle of the longer."""
    height, width = clips.shape[-2:]
    scale = I3D_SIDE / min(height, width)
    size = [max(I3D_SIDE, round(side * scale)) for side in (height, width)]
    images = clips.transpose(1, 2).flatten(0, 1)
    scaled = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
    top, left = ((side - I3D_SIDE) // 2 for side in size)
    cut = scaled[..., top : top + I3D_SIDE, left : left + I3D_SIDE]
    return cut.unflatten(0, (len(clips), -1)).transpose(1, 2)
