"""Every figure of made clips, beside the same of real ones."""

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from flow_cache import FlowEstimator
from trainer.metrics.differences import (
    Clips,
    Figure,
    frame_difference,
    second_difference,
    temporal_variance,
)
from trainer.metrics.features import FeatureNetwork
from trainer.metrics.frechet import video_distance
from trainer.metrics.motion import motion_amount, motion_of, visible_share, warping_error
from trainer.metrics.perceptual import Distance, consistency, drift

Batches: TypeAlias = Iterable[Float[Tensor, "_ _ 3 _ _"]]
"""Of clips [b, t, 3, h, w], frames in [0, 1]."""


def measure(
    made: Batches,
    estimator: FlowEstimator,
    *,
    real: Batches = (),
    distance: Distance | None = None,
    network: FeatureNetwork | None = None,
) -> dict[str, float]:
    """Figures of clips; docs/metrics.md says what each of them is good for.

    Args:
        made: batches of clips, frames in [0, 1]; what lies outside is cut off, as in a video file.
        estimator: of `motion.measuring_estimator`.
        real: clips of the data, for comparison; not those that the made ones were made from.
        distance: LPIPS; without it there is no `tcs` and no `lpips_drift`.
        network: of FVD; without it, or without real clips, there is none.

    Returns:
        clips: how many the means are over.
        flicker, second_difference: `differences`; frame_difference and motion_px beside them say
            whether they are low because nothing moves.
        motion_px, warping_error, visible_share: `motion`.
        tcs, lpips_drift: `perceptual`.
        real_…: each of these for the real clips.
        motion_ratio: motion_px over that of the real clips; 0 is standing still.
        fvd, fvd_real, fvd_n: `frechet.video_distance`.

    Raises:
        ValueError: a pixel is not finite.
    """
    figures, features = _collected(made, estimator, distance, network)
    real_figures, real_features = _collected(real, estimator, distance, network)
    if not real_figures:
        return figures
    result = figures | {f"real_{name}": value for name, value in real_figures.items()}
    still = real_figures["motion_px"] == 0
    result["motion_ratio"] = np.nan if still else figures["motion_px"] / real_figures["motion_px"]
    return result if network is None else result | video_distance(features, real_features)


@torch.no_grad()
def figures_of(
    clips: Clips, estimator: FlowEstimator, distance: Distance | None = None
) -> dict[str, Figure]:
    """The figures of each clip by itself."""
    motion = motion_of(clips, estimator)
    figures = {
        "flicker": temporal_variance(clips),
        "second_difference": second_difference(clips),
        "frame_difference": frame_difference(clips),
        "motion_px": motion_amount(motion),
        "warping_error": warping_error(clips, motion),
        "visible_share": visible_share(motion),
    }
    if distance is not None:
        figures |= {"tcs": consistency(clips, distance), "lpips_drift": drift(clips, distance)}
    return figures


def _collected(
    batches: Batches,
    estimator: FlowEstimator,
    distance: Distance | None,
    network: FeatureNetwork | None,
) -> tuple[dict[str, float], Float64[np.ndarray, "n d"]]:
    """Means over clips, of those that have the figure, and their features; empty without clips."""
    figures: list[dict[str, Figure]] = []
    features = [np.zeros((0, 0))]
    count = 0
    for clips in batches:
        if not clips.isfinite().all():
            raise ValueError(
                f"a clip among {count} to {count + len(clips) - 1} has pixels that are no numbers: "
                "there are no figures of it; look at the model that made it"
            )
        shown = clips.clamp(0, 1)
        figures.append(figures_of(shown, estimator, distance))
        count += len(clips)
        if network is not None:
            features.append(network(shown))
    if not figures:
        return {}, features[0]
    means = {name: torch.cat([f[name] for f in figures]).nanmean().item() for name in figures[0]}
    return {"clips": float(count), **means}, np.concatenate(features[1:] or features)
