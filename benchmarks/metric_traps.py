"""What each figure says of clips that are spoiled in one known way, and of FVD with few clips.

    python benchmarks/metric_traps.py [--data FOLDER] [--estimator dis] [--json FILE]

The first table has a row for each way; the truth is the first. A figure of smoothness is worth
something if it is lowest for the truth, which none of them is: standing still beats it. The second
is the Fréchet distance between two sets of one Gaussian, whose true distance is 0, by their number.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flow_accuracy import machine
from flow_hops import FRAMES, read_clips
from torch import Tensor

from fluxshard.demo.scenes import random_scene
from trainer.metrics.frechet import frechet_distance
from trainer.metrics.measure import measure
from trainer.metrics.motion import measuring_estimator
from trainer.metrics.truth import motion_error

Row = dict[str, Any]
SHOWN = (
    *("flicker", "second_difference", "frame_difference", "motion_px", "motion_ratio"),
    *("warping_error", "visible_share", "flow_relative"),
)
AMOUNT = 0.02  # of the intensity range, of what flickers and of noise
FEATURES = 400  # of the usual network of FVD


def blurred(clip: Tensor) -> Tensor:
    """Each frame the mean of itself and its neighbours."""
    before, after = torch.cat([clip[:1], clip[:-1]]), torch.cat([clip[1:], clip[-1:]])
    return (before + clip + after) / 3


def slowed(clip: Tensor) -> Tensor:
    """Half of the speed: every second frame is the mean of two."""
    half = clip[: (len(clip) + 1) // 2]
    between = torch.lerp(half[:-1], half[1:], 0.5)
    return torch.stack([half[:-1], between], dim=1).flatten(0, 1)


def swapped(clip: Tensor) -> Tensor:
    """Two neighbours in the middle have traded places."""
    order = list(range(len(clip)))
    order[3], order[4] = order[4], order[3]
    return clip[order]


def flickering(clip: Tensor) -> Tensor:
    """Each frame is brighter or darker as a whole."""
    generator = torch.Generator().manual_seed(0)
    return clip + AMOUNT * torch.randn(len(clip), 1, 1, 1, generator=generator)


def noisy(clip: Tensor) -> Tensor:
    """Each pixel by itself."""
    return clip + AMOUNT * torch.randn(clip.shape, generator=torch.Generator().manual_seed(0))


WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "true": lambda clip: clip,
    "standing still": lambda clip: clip[:1].expand_as(clip),
    "half speed": slowed,
    "blurred in time": blurred,
    "two frames swapped": swapped,
    "brightness flickers": flickering,
    "noise": noisy,
}


def spoiled_rows(clips: Sequence[Tensor], estimator_name: str) -> Iterator[Row]:
    """Every figure of each way, over clips [t, 3, h, w] in [0, 1]; medians of `flow_relative`."""
    estimator, true_motion = measuring_estimator(estimator_name), 0.0
    for name, spoil in WAYS.items():
        made = [spoil(clip).clamp(0, 1)[None] for clip in clips]
        figures = measure(made, estimator)
        true_motion = true_motion or figures["motion_px"]  # of the first way
        figures["motion_ratio"] = figures["motion_px"] / true_motion
        figures["flow_relative"] = statistics.median(
            motion_error(ours, theirs[None, : ours.shape[1]], estimator)["flow_relative"]
            for ours, theirs in zip(made, clips, strict=True)
        )
        yield {"way": name, **{key: figures[key] for key in SHOWN}}


def bias_rows(counts: Sequence[int]) -> Iterator[Row]:
    """The distance of two sets of one unit Gaussian."""
    rng = np.random.default_rng(0)
    for n in counts:
        first, second = rng.normal(size=(2, n, FEATURES))
        yield {"clips": n, "distance": frechet_distance(first, second)}


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the benchmark; without --data on a synthetic scene."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with videos; default a synthetic scene")
    parser.add_argument("--estimator", default="dis")
    parser.add_argument("--clips", type=int, default=10, help="of so many videos")
    parser.add_argument("--counts", default="16,64,256,1024,2048", help="numbers of clips")
    parser.add_argument("--json", type=Path, help="also write the rows")
    options = parser.parse_args(arguments)
    if options.data:
        stored = list(islice(read_clips(options.data), options.clips))
    else:
        stored = [torch.from_numpy(random_scene(0, (64, 96)).clip(range(FRAMES)))]
    clips = [clip.float() / 255 for clip in stored]
    print(f"{machine()}; {len(clips)} clips of {FRAMES} frames, flow by {options.estimator}\n")
    result: dict[str, Any] = {"machine": machine(), "clips": len(clips), "spoiled": [], "bias": []}
    print(" " * 20 + "".join(f"{name:>18}" for name in SHOWN))
    for row in spoiled_rows(clips, options.estimator):
        result["spoiled"].append(row)
        print(f"{row['way']:20}" + "".join(f"{row[name]:18.4g}" for name in SHOWN))
    print(f"\nFréchet distance of two sets of one Gaussian of {FEATURES} features\n")
    for row in bias_rows([int(n) for n in options.counts.split(",")]):
        result["bias"].append(row)
        print(f"{row['clips']:8} clips{row['distance']:12.1f}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    return result


if __name__ == "__main__":
    main()
