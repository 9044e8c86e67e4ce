"""What a flow layer costs and what it is worth: bytes, FlowLoss's floor, gradient, composition.

    python benchmarks/flow_layers.py --data FOLDER [--cache FOLDER] [--half 0|1] [--json rows.json]

One clip of 17 frames at 256x384 out of the middle of every video in FOLDER (or its subfolder
`videos`); --half takes every other video, so that what is chosen on one half is checked on the
other. Flow is estimated by `variational` on the source's frames and, as FlowLoss does, on those of
the stored clip. Videos without motion to speak of are left out. --cache keeps figures.

raise       what rounding adds to FlowLoss's floor, in parts of the floor: median and worst clip
gradient    cosine between FlowLoss's gradient at the stored clip's frames and the unrounded flow's
spans       root mean square change of flow composed over 2 to 16 frames, px, where visible
visible     share of pixels whose composed visibility over 2 to 16 frames stays what it was
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from flow_codec import machine
from flow_layer_figures import (
    BACKWARD,
    BOUNDS,
    FIRST,
    LEVELS,
    SPANS,
    Figures,
    measure,
    motion_of,
)

from flow_cache import load_estimator
from fluxshard.demo.scenes import random_scene
from pipeline.planning.config import BuildConfig, flow_specs
from pipeline.planning.scan import scan_video
from pipeline.records import Reject
from pipeline.source.clip_frames import read_clips
from pipeline.source.inputs import find_sources

STILL_PX = 0.005  # mean length of flow below which there is nothing to store


@dataclass(frozen=True, kw_only=True)
class Row:
    """One bound over all clips; by level where there are three.

    Attributes:
        kib: of a field.
        multiple: bytes of a layer of the levels so far, as a multiple of the clips'.
        raises, worst: median and largest of the clips.
        gradient: cosine, mean over pairs.
        spans: root mean square, px, by frames apart.
        visible: share of equal pixels.
    """

    bound: str
    kib: list[float]
    multiple: list[float]
    raises: list[float]
    worst: list[float]
    gradient: list[float]
    spans: list[float]
    visible: float


def summary(clips: Sequence[Figures]) -> list[Row]:
    """A row for each bound over all clips."""
    video = sum(clip["clip"]["bytes"] for clip in clips)
    return [_row(name, clips, video) for name in (FIRST, *BOUNDS, BACKWARD)]


def _row(name: str, clips: Sequence[Figures], video: int) -> Row:
    sizes = np.array([clip[name]["sizes"] for clip in clips]).sum(0)  # [levels, 2]
    nothing = [math.nan] * len(LEVELS)
    row = Row(
        bound=name,
        kib=list(sizes[:, 0] / (1024 * sizes[:, 1])),
        multiple=list(np.cumsum(sizes[:, 0]) / video),
        raises=nothing,
        worst=nothing,
        gradient=nothing,
        spans=[],
        visible=math.nan,
    )
    if "floors" not in clips[0][name]:
        return row
    exact = np.array([clip["unrounded"]["floors"] for clip in clips])
    raises = np.array([clip[name]["floors"] for clip in clips]) / exact - 1
    spans = np.array([clip[name]["spans"] for clip in clips])  # [clips, spans, 2]
    return replace(
        row,
        raises=list(np.median(raises, 0)),
        worst=list(raises.max(0)),
        gradient=list(np.mean([clip[name]["cosines"] for clip in clips], 0)),
        spans=list(np.sqrt(np.nanmean(spans[..., 0], 0))),
        visible=float(spans[..., 1].mean()),
    )


def show(rows: Sequence[Row], clips: Sequence[Figures]) -> None:
    """Print the tables."""
    floors = np.array([clip["unrounded"]["floors"] for clip in clips])
    chained = np.array([clip["unrounded"]["composed"] for clip in clips])
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    print(f"{len(clips)} clips, {sum(c['clip']['bytes'] for c in clips) / 1024:.0f} KiB of video\n")
    print("floor, unrounded, px² (median, mean), and where a level is composed from level 1:")
    for level, own, chain in zip(LEVELS, floors.T, chained.T, strict=True):
        means = f"{np.median(own):.4f} {own.mean():.4f}, {np.median(chain):.4f} {chain.mean():.4f}"
        print(f"  level {level}: {means}")
    print("\nby level 1, 2, 4; layers of level 1, of 1 and 2, of all, as multiples of the clips\n")
    heads = ("KiB a field", "layer", "floor +, median", "worst clip", "gradient")
    print(f"{'bound':24}" + "".join(f"{head:22}" for head in heads))
    for row in rows:
        parts = [" ".join(f"{value:.1f}" for value in row.kib)]
        parts += [" ".join(f"{value:.2f}" for value in row.multiple)]
        parts += [" ".join(f"{value:.1%}" for value in of) for of in (row.raises, row.worst)]
        parts.append(" ".join(f"{value:.4f}" for value in row.gradient))
        print(f"{row.bound:24}" + "".join(f"{part:22}" for part in parts))
    print("\nKiB of a field at 1/4 px, and of what is left when it is predicted from other fields")
    for name in clips[0]["across"]:
        own, left = np.mean([clip["across"][name] for clip in clips], 0) / 1024
        print(f"{name:34}{own:5.1f} {left:5.1f}")
    print(f"\n{'bound':24}spans {SPANS}, px{'':12}visible")
    for row in rows:
        if row.spans:
            print(f"{row.bound:24}{' '.join(f'{px:.4f}' for px in row.spans):34}{row.visible:.3%}")


def real_clips(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Name and frames of the middle clip of every video."""
    videos = folder / "videos" if (folder / "videos").is_dir() else folder
    for source in find_sources([str(videos)])[0]:
        scan = scan_video(source, BuildConfig().clip_rule, detector="adaptive")
        if not isinstance(scan, Reject) and scan[1]:
            clip = scan[1][len(scan[1]) // 2]
            for frames in read_clips([clip]):
                if not isinstance(frames, Reject):
                    yield Path(source.path).name, frames


def kept(file: Path | None, compute: Callable[[], Figures]) -> Figures:
    """Figures of a clip: from a file, or computed and put there."""
    if file and file.exists():
        found: Figures = json.loads(file.read_text())
        return found
    figures = compute()
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(figures))
    return figures


def figures_of(frames: np.ndarray) -> Figures:
    """Of one clip, uint8 [t, 3, h, w]."""
    size = frames.shape[2], frames.shape[3]
    (spec,) = flow_specs(BuildConfig(size=size, directions=("forward", "backward")))
    estimator = load_estimator(spec.estimator)
    return measure(motion_of(frames, estimator, spec), estimator)


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Run the benchmark; without --data on a synthetic scene."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with videos; default a synthetic scene")
    parser.add_argument("--cache", type=Path, help="folder that keeps figures between runs")
    parser.add_argument("--half", type=int, choices=(0, 1), help="every other video only")
    parser.add_argument("--json", type=Path, help="also write the rows")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    scene = random_scene(0, (64, 96)).clip(range(17))
    found = real_clips(options.data) if options.data else iter([("scene", scene)])
    clips = [
        kept(options.cache and options.cache / f"{name}.json", partial(figures_of, frames))
        for name, frames in found
    ]
    moving = [clip for clip in clips if clip["unrounded"]["px"] >= STILL_PX]
    if options.half is not None:
        moving = moving[options.half :: 2]
    rows = summary(moving)
    show(rows, moving)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    return rows


if __name__ == "__main__":
    main()
