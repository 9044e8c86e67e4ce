"""Figures by LPIPS (arXiv 1801.03924), of the package `lpips`: unit-normalised features, learned
weights for each channel, mean over places. (The article's formula leaves out all three.)"""

import warnings
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from flow_cache import EstimatorUnavailable
from flow_cache.estimators.network import import_torchvision
from flow_cache.estimators.weights import fetching
from shards import UsageError
from trainer.metrics.differences import Clips, Figure

Distance: TypeAlias = Callable[[Tensor, Tensor], Float[Tensor, " n"]]
"""Between images [n, 3, h, w] in [0, 1]."""

Net: TypeAlias = Literal["alex", "vgg", "squeeze"]
TRUNKS = {"alex": "AlexNet", "vgg": "VGG16", "squeeze": "SqueezeNet1_1"}  # torchvision's names
SMALLEST = 32  # pixels a side, below which a trunk pools to nothing


def load_lpips(net: Net = "alex", **made: Any) -> Distance:
    """LPIPS version 0.1; "alex" is what papers report.

    Args:
        made: passed on to `lpips.LPIPS`; `pnet_rand=True` draws the trunk's weights.

    Raises:
        UsageError: the package is not installed, or the trunk's weights cannot be fetched.
    """
    try:
        import_torchvision()
        import lpips
        from torchvision import models
    except (ImportError, EstimatorUnavailable) as error:
        raise UsageError(
            f"LPIPS needs the packages lpips and torchvision ({error}): pip install "
            "'fluxshard[lpips]', with the torchvision that belongs to this torch, or measure "
            "without it"
        ) from error

    def load() -> torch.nn.Module:
        with warnings.catch_warnings():  # it calls torchvision in an older way
            warnings.simplefilter("ignore")
            return lpips.LPIPS(net=net, verbose=False, **made).requires_grad_(False)

    url = getattr(models, f"{TRUNKS[net]}_Weights").DEFAULT.url
    try:
        network = fetching(url, load)
    except EstimatorUnavailable as error:
        raise UsageError(f"LPIPS cannot run: {error}; or measure without it") from error

    @torch.no_grad()
    def distance(first: Tensor, second: Tensor) -> Tensor:
        if min(first.shape[-2:]) < SMALLEST:
            size = "x".join(map(str, first.shape[-2:]))
            raise UsageError(
                f"frames of {size} are too small for LPIPS, which needs {SMALLEST} pixels a side: "
                "measure larger clips, or without it"
            )
        return network.to(first.device)(first, second, normalize=True).flatten()

    return distance


def distance_over(frames: Clips, distance: Distance, offset: int) -> Figure:
    """Mean LPIPS between frames so far apart; NaN where clips are no longer than that."""
    ends = [frames[:, :-offset], frames[:, offset:]]
    pairs = ends[0].shape[1]
    if pairs == 0:
        return frames.new_full(frames.shape[:1], torch.nan)
    first, second = (end.flatten(0, 1) for end in ends)
    return distance(first, second).unflatten(0, (-1, pairs)).mean(1)


def consistency(frames: Clips, distance: Distance) -> Figure:
    """TCS, the article's temporal consistency score: 1 − mean LPIPS of neighbours. A still clip has
    1; 0.7 to 0.95 is called good."""
    return 1 - distance_over(frames, distance, 1)


def drift(frames: Clips, distance: Distance) -> Figure:
    """How much further apart frames half a clip apart are than neighbours, in LPIPS.

    Grows where identities change, and where things move; NaN for clips of less than four frames.
    """
    half = frames.shape[1] // 2
    if half < 2:
        return frames.new_full(frames.shape[:1], torch.nan)
    return distance_over(frames, distance, half) - distance_over(frames, distance, 1)
