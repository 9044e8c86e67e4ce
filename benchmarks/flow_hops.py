"""What composing flow costs: chains of stored fields against the direct estimate.

    python benchmarks/flow_hops.py --data FOLDER [--estimator dis] [--json rows.json]

Over nine consecutive frames of every video in FOLDER (or its subfolder `videos`) at 256x384, flow
between frames 2, 4 and 8 apart is composed along each level's fields and compared with the flow
estimated directly, over the pixels that all of them call visible.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from functools import reduce
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch
from torch import Tensor

from flow_cache import FlowField, FlowSpec, load_estimator
from flow_cache.algebra import compose, length
from flow_cache.estimators import FlowEstimator
from flow_cache.estimators.estimate import estimate_clip
from fluxshard.demo.scenes import random_scene

SIZE, FIRST, FRAMES = (256, 384), 8, 9
LEVELS = (1, 2, 4, 8)
VIDEOS = {".avi", ".mkv", ".mov", ".mp4", ".ogv", ".webm"}


def layer_spec(estimator: FlowEstimator, frames: Tensor, criterion: str, **held: Any) -> FlowSpec:
    """The spec of a layer of an estimator's flow; `held` says which levels and directions."""
    return FlowSpec(
        estimator=estimator.name,
        revision=estimator.revision,
        params=estimator.params,
        weights_sha256=estimator.weights_sha256,
        size=(frames.shape[-2], frames.shape[-1]),
        occlusion=criterion,
        max_error_px=1 / 32,
        frames_from="source",
        **held,
    )


def chains(frames: Tensor, estimator: FlowEstimator) -> dict[tuple[int, int], FlowField]:
    """Flow from the first frame to the frame `span` away along level `stride`, by (span, stride).

    frames: uint8 [9, 3, h, w]. With stride = span it is the direct estimate.
    """
    spec = layer_spec(estimator, frames, "fb-sundaram2010", levels=LEVELS, directions=("forward",))
    fields = estimate_clip(estimator, frames, spec)
    return {
        (span, stride): reduce(compose, [fields[i, i + stride] for i in range(0, span, stride)])
        for span in LEVELS[1:]
        for stride in LEVELS
        if stride <= span
    }


def compare(clips: Sequence[Tensor], estimator: FlowEstimator) -> list[dict[str, float]]:
    """A row for each span and level: distance to the direct estimate, and what stays visible.

    Medians over the clips of their mean distances: some hold a cut, where no flow means anything.
    """
    answers = [chains(clip, estimator) for clip in clips]
    rows = []
    for span, stride in answers[0]:
        distances = []
        for answer in answers:
            rivals = [field for (other, _), field in answer.items() if other == span]
            shared = torch.cat([field.visible for field in rivals]).all(0)
            gap = length(answer[span, stride].flow - answer[span, span].flow)[0]
            distances.append(gap[shared].mean().item())
        shown = [answer[span, stride].visible.float().mean().item() for answer in answers]
        rows.append(
            {
                "span": span,
                "level": stride,
                "hops": span // stride,
                "epe_to_direct": float(np.nanmedian(distances)),
                "visible_share": float(np.mean(shown)),
            }
        )
    return rows


def read_clips(folder: Path) -> Iterator[Tensor]:
    """Nine frames uint8 [9, 3, h, w] of every video long enough."""
    videos = folder / "videos" if (folder / "videos").is_dir() else folder
    for path in sorted(path for path in videos.iterdir() if path.suffix in VIDEOS):
        clip = read_clip(path)
        if len(clip) == FRAMES:
            yield clip


def read_clip(path: Path) -> Tensor:
    """Up to nine frames uint8 [t, 3, h, w] of a video."""
    frames = []
    with av.open(str(path)) as container:
        for frame in islice(container.decode(video=0), FIRST, FIRST + FRAMES):
            picture = frame.to_ndarray(format="rgb24")
            frames.append(cv2.resize(picture, SIZE[::-1], interpolation=cv2.INTER_AREA))
    stacked = np.stack(frames) if frames else np.zeros((0, *SIZE, 3), np.uint8)
    return torch.from_numpy(stacked.transpose(0, 3, 1, 2).copy())


def main(arguments: Sequence[str] | None = None) -> list[dict[str, float]]:
    """Run the benchmark; without --data on a synthetic scene."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with videos; default a synthetic scene")
    parser.add_argument("--estimator", default="dis")
    parser.add_argument("--json", type=Path, help="also write the rows")
    options = parser.parse_args(arguments)
    if options.data:
        clips = list(read_clips(options.data))
    else:
        clips = [torch.from_numpy(random_scene(0, (64, 96)).clip(range(FRAMES)))]
    if not clips:
        raise SystemExit(f"no videos in {options.data}; give --data a folder that holds some")
    rows = compare(clips, load_estimator(options.estimator))
    print(f"{len(clips)} clips, {options.estimator}\n")
    print("span   level   hops   distance to direct, px   visible")
    for row in rows:
        print(
            f"{row['span']:4} {row['level']:7} {row['hops']:6} {row['epe_to_direct']:24.3f}"
            f" {row['visible_share']:9.3f}"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2))
    return rows


if __name__ == "__main__":
    main()
