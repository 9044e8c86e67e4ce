"""How much of FlowLoss is its floor at low noise levels: what `flow_loss.sigma_floor` is set by.

    python benchmarks/sigma_floor.py [--data FOLDER] [--clips 12] [--json FILE]

Stored flow is the source's, clips are compressed, so the true stored clip has a loss, the floor. A
model's clip differs from it the less the lower the noise level, and what it is taught there is to
undo compression, with the weight 1/σ². Two denoisers stand for models, one worse and one better
than any: the preconditioning alone, an untrained network's; and a filter that knows the energy of
each frequency of this very clip (an oracle's Wiener filter in space and time).
"""

import argparse
import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from flow_accuracy import machine
from flow_hops import FRAMES, read_clips
from torch import Tensor

from flow_cache import FlowEstimator, load_estimator
from flow_cache.occlusion import visibility
from fluxshard.demo.scenes import random_scene
from shards.clip_video import decode_rgb, encode_clip
from trainer import to_signal, to_unit

Row = dict[str, Any]
Denoiser = Callable[[Tensor, Tensor, float], Tensor]
LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
DATA, OCCLUDED = 0.5, 0.3  # defaults of process.sigma_data and flow_loss.occluded_weight


def preconditioned(clip: Tensor, noisy: Tensor, level: float) -> Tensor:
    """c_skip·x, what EDM's network begins with."""
    return noisy * DATA**2 / (level**2 + DATA**2)


def filtered(clip: Tensor, noisy: Tensor, level: float) -> Tensor:
    """Each frequency by its share of clip in clip and noise, as the true clip has it."""
    axes = (0, 2, 3)
    power = torch.fft.fftn(clip, dim=axes).abs() ** 2
    noise = level**2 * clip[:, 0].numel()
    gained = torch.fft.fftn(noisy, dim=axes) * power / (power + noise)
    return torch.fft.ifftn(gained, dim=axes).real


DENOISERS: dict[str, Denoiser] = {
    "preconditioning alone": preconditioned,
    "oracle's filter": filtered,
}


def resized(clip: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 [t, 3, h, w] at another size."""
    return F.interpolate(clip.float(), size, mode="area").round().byte()


def stored(clip: Tensor) -> Tensor:
    """The clip as a dataset holds it: encoded and decoded."""
    out = np.empty(clip.shape, np.uint8)
    decode_rgb(encode_clip(clip.numpy(), Fraction(24)), range(len(clip)), out)
    return torch.from_numpy(out)


def errors(clip: Tensor, estimator: FlowEstimator) -> Row:
    """FlowLoss before its weight, px² per pixel: of the stored clip, and of its denoisings."""
    pairs = [*pairwise(range(len(clip)))]
    first, second = (torch.tensor(side) for side in zip(*pairs, strict=True))
    source, kept = clip.float() / 255, stored(clip)
    flow = estimator.pair(source[first], source[second])
    seen = visibility(flow, estimator.pair(source[second], source[first]), "fb-sundaram2010")
    weight = torch.where(seen, 1.0, OCCLUDED)

    def error(signal: Tensor) -> float:
        frames = to_unit(signal)
        squares = (estimator.pair(frames[first], frames[second]) - flow).square().sum(1)
        return (weight * squares).mean().item()

    signal = to_signal(kept)
    noise = torch.randn(signal.shape, generator=torch.Generator().manual_seed(0))
    found: Row = {"floor": error(signal)}
    for name, denoise in DENOISERS.items():
        for level in LEVELS:
            found[f"{name} {level}"] = error(denoise(signal, signal + level * noise, level))
    return found


def main(arguments: Sequence[str] | None = None) -> Row:
    """Run the benchmark; without --data on a synthetic scene."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with videos; default a synthetic scene")
    parser.add_argument("--clips", type=int, default=12, help="of so many videos")
    parser.add_argument("--size", type=int, nargs=2, default=(128, 192), help="height and width")
    parser.add_argument("--json", type=Path, help="also write the figures")
    options = parser.parse_args(arguments)
    if options.data:
        clips = list(islice(read_clips(options.data), options.clips))
    else:
        clips = [torch.from_numpy(random_scene(0, (64, 96)).clip(range(FRAMES)))]
    size = tuple(options.size) if options.data else (64, 96)
    estimator = load_estimator("variational")
    with torch.no_grad():
        rows = [errors(resized(clip, size), estimator) for clip in clips]
    median = {name: float(np.median([row[name] for row in rows])) for name in rows[0]}
    # Of each clip first: some move so much that they would decide a mean of errors alone.
    share = {n: float(np.median([row["floor"] / row[n] for row in rows])) for n in rows[0]}
    print(f"{machine()}; {len(clips)} clips of {FRAMES} frames at {size[0]}x{size[1]}, medians\n")
    print(f"floor {median['floor']:.3f} px²\n\n{'level':>6}", end="")
    print("".join(f"{name:>34}" for name in DENOISERS))
    for level in LEVELS:
        cells = [f"{name} {level}" for name in DENOISERS]
        print(f"{level:6}", *(f"{median[c]:18.3f} px², floor {share[c]:5.0%}" for c in cells))
    result = {"machine": machine(), "size": size, "error": median, "share": share, "clips": rows}
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))
    return result


if __name__ == "__main__":
    main()
