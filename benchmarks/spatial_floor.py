"""FlowLoss's floor where pictures are cut, mirrored or resized: what no model can go below.

    python benchmarks/spatial_floor.py --data FOLDER [--cache FOLDER] [--json rows.json]

One clip of 17 frames at 256x384 out of the middle of every video in FOLDER (or its subfolder
`videos`), two of its pairs. Stored flow is that of the source's frames, coded as a build does; the
live flow is estimated on the stored clip's frames as they are shown. A floor is compared with the
still error, which is that of a clip that does not move: both are in pixels of what is shown.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from flow_codec import machine
from flow_layer_figures import BOUNDS, CHOSEN
from flow_layers import kept, real_clips
from torch import Tensor

from flow_cache import (
    FlowEstimator,
    FlowField,
    FlowSpec,
    decode_field,
    encode_field,
    estimate_clip,
    load_estimator,
    measure_round_trip,
)
from fluxshard.demo.scenes import random_scene
from pipeline.planning.config import BuildConfig, flow_specs
from shards import decode_clip, encode_clip
from trainer import FlowLoss, FlowLossConfig, FlowTargets, to_signal
from trainer.spatial.transform import SpatialTransform
from trainer.terms.term import Step

STILL_PX2 = 0.01  # still error below which a clip says nothing
PAIRS = ((0, 1), (8, 9))
LEVELS = torch.full((1, 2 * len(PAIRS)), 0.1)  # below FlowLoss's gate
Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way of showing pictures, over all clips.

    Attributes:
        floor: px², mean over clips.
        still: px², mean over clips.
        ratio, worst: median and largest ratio of the floor to that of the picture as stored.
        share: median ratio of floor over still to the same of the picture as stored.
    """

    way: str
    floor: float
    still: float
    ratio: float
    worst: float
    share: float


def ways(stored: Size) -> dict[str, SpatialTransform]:
    """Ways of showing pictures, in parts of their sides."""

    def way(
        box: float, scale: float = 1, *, square: bool = False, flip: bool = False
    ) -> SpatialTransform:
        height, width = (round(box * side) for side in stored)
        width = height if square else width
        return SpatialTransform(
            stored=stored,
            top=(stored[0] - height) // 2,
            left=(stored[1] - width) // 2,
            height=height,
            width=width,
            size=(round(scale * height), round(scale * width)),
            flip=flip,
        )

    return {
        "as stored": way(1),
        "mirrored": way(1, flip=True),
        "cut to 3/4": way(0.75),
        "cut to 3/4, mirrored": way(0.75, flip=True),
        "cut to 1/2": way(0.5),
        "resized to 3/4": way(1, 0.75),
        "resized to 1/2": way(1, 0.5),
        "cut to a square": way(1, square=True),
        "square, resized to 3/4": way(1, 0.75, square=True),
        "square, resized to 3/4, mirrored": way(1, 0.75, square=True, flip=True),
    }


def stored_field(frames: Tensor, estimator: FlowEstimator, spec: FlowSpec) -> FlowField:
    """Flow from the first to the second frame, uint8 [2, 3, h, w], as a built layer gives it."""
    fields = estimate_clip(estimator, frames, spec)
    forward, trip = fields[0, 1], measure_round_trip(fields[0, 1], fields[1, 0].flow)
    blob = encode_field(
        forward.flow[0],
        forward.visible[0],
        pair=(0, 1),
        max_error_px=BOUNDS[CHOSEN](forward, trip),
        spec_digest=spec.field_digest,
    )
    return decode_field(blob).field


def figures(frames: np.ndarray) -> dict[str, Any]:
    """Floor and still error of one clip, uint8 [t, 3, h, w], by way."""
    size = frames.shape[2], frames.shape[3]
    config = BuildConfig(size=size, levels=(1,), directions=("forward", "backward"))
    (spec,) = flow_specs(config)
    estimator = load_estimator(spec.estimator)
    loss = FlowLoss(FlowLossConfig(), estimator)
    source = torch.from_numpy(frames)
    fields = [stored_field(source[[i, j]], estimator, spec) for i, j in PAIRS]
    field = FlowField(
        flow=torch.cat([one.flow for one in fields]),
        visible=torch.cat([one.visible for one in fields]),
    )
    stored = torch.from_numpy(decode_clip(encode_clip(frames, Fraction(24))))
    clip = torch.cat([stored[[i, j]] for i, j in PAIRS])
    found = {}
    for name, space in ways(size).items():
        shown = space.on_flow(field)
        targets = FlowTargets(
            rows=torch.tensor([0]),
            slots=torch.arange(2 * len(PAIRS)).view(1, -1, 2),
            hops=torch.ones(1, len(PAIRS), dtype=torch.int64),
            flow=shown.flow[None],
            visible=shown.visible[None],
        )
        clips = space.on_frames(clip)[None]
        frozen = clips[:, [k - k % 2 for k in range(2 * len(PAIRS))]]
        steps = [
            Step(clean=to_signal(true), levels=LEVELS, targets=targets, true=true)
            for true in (clips, frozen)
        ]
        found[name] = [loss.bounds(step)["flow_floor"].item() for step in steps]
    return found


def summary(clips: Sequence[dict[str, Any]]) -> list[Row]:
    """A row for each way over all clips that move."""
    moving = [clip for clip in clips if clip["as stored"][1] > STILL_PX2]
    base = np.array([clip["as stored"] for clip in moving])
    rows = []
    for way in moving[0]:
        found = np.array([clip[way] for clip in moving])
        ratios = found[:, 0] / base[:, 0]
        shares = found[:, 0] / found[:, 1] / (base[:, 0] / base[:, 1])
        rows.append(
            Row(
                way=way,
                floor=float(found[:, 0].mean()),
                still=float(found[:, 1].mean()),
                ratio=float(np.median(ratios)),
                worst=float(ratios.max()),
                share=float(np.median(shares)),
            )
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Run the benchmark; without --data on a synthetic scene."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with videos; default a synthetic scene")
    parser.add_argument("--cache", type=Path, help="folder that keeps figures between runs")
    parser.add_argument("--json", type=Path, help="also write the rows")
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    scene = random_scene(0, (96, 144)).clip(range(17))
    found: Iterator[tuple[str, np.ndarray]]
    found = real_clips(options.data) if options.data else iter([("scene", scene)])
    clips = [
        kept(options.cache and options.cache / f"{name}.json", partial(figures, frames))
        for name, frames in found
    ]
    rows = summary(clips)
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    print(f"{len(clips)} clips; floor and still error in px² of what is shown\n")
    print(f"{'':34}{'floor':>8}{'still':>9}{'to stored':>11}{'worst':>8}{'of still':>10}")
    for row in rows:
        print(
            f"{row.way:34}{row.floor:8.4f}{row.still:9.3f}{row.ratio:11.2f}{row.worst:8.2f}"
            f"{row.share:10.2f}"
        )
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    return rows


if __name__ == "__main__":
    main()
