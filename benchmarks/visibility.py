"""How true stored visibility is: on scenes known exactly, on published masks, at frames' borders.

    python benchmarks/visibility.py [--data FOLDER] [--json FILE]

Scenes: F1 of the hidden pixels, with true and with estimated flow, forward and backward, pooled
over the seeds; constants were chosen on scenes of these kinds with other textures and headings.
With --data, the masks of its subfolder `flow_gt` (FlyingChairs2, Sintel; seen while choosing)
and the videos of `videos`: of the pixels in the outermost ring whose flow is shorter than a quarter
pixel, the share that is hidden, in single pairs and composed over four, and how many of all hidden
pixels lie in that ring. Pairs of which flow explains little (cuts, fades, slides) count in "all
pairs" alone. Last, the processor time that a field takes.
"""

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from flow_accuracy import machine
from flow_hops import layer_spec, read_clips
from flow_pairs import ground_truth
from torch import Tensor
from visibility_scenes import (
    Counts,
    analytic_scenes,
    counts,
    f1,
    frames_of,
    still_noise,
    tally,
    truth_of,
)

from flow_cache import FlowField, load_estimator
from flow_cache.algebra import compose
from flow_cache.estimators import FlowEstimator
from flow_cache.estimators.estimate import estimate_clip
from flow_cache.matching import matched_visibility
from flow_cache.occlusion import DEFAULT_CRITERION, visibility

Row = dict[str, Any]

BEFORE = "fb-sundaram2010"
CRITERIA = (BEFORE, DEFAULT_CRITERION)
CLEAR = (
    0.8  # visible share, by the criterion before, from which flow explains a pair: no cut or fade
)


def fields_of(
    estimator: FlowEstimator, frames: Tensor, criterion: str, pairs: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], FlowField]:
    """Fields as a layer would store them."""
    spec = layer_spec(estimator, frames, criterion, levels=(1,))
    return estimate_clip(estimator, frames, spec, pairs)


def scene_rows(estimators: Sequence[str], seeds: Sequence[int]) -> list[Row]:
    """A row for each scene, source of flow and criterion; "all" pools them."""
    parts: dict[tuple[str, str, str, str], list[Counts]] = defaultdict(list)
    for seed in seeds:
        for name, scene in analytic_scenes(seed):
            truth = truth_of(scene)
            for source, criterion, seen in masks(scene, truth, estimators):
                for way, mask, visible in zip(
                    ("forward", "backward"), seen, truth.visible, strict=True
                ):
                    for row in (name, "all"):
                        parts[row, source, criterion, way].append(counts(mask, visible))
    names = dict.fromkeys(key[:3] for key in parts)
    return [
        {
            "scene": scene,
            "flow": source,
            "criterion": criterion,
            **{way: f1(parts[scene, source, criterion, way]) for way in ("forward", "backward")},
        }
        for scene, source, criterion in names
    ]


def masks(
    scene: Any, truth: FlowField, estimators: Sequence[str]
) -> Iterator[tuple[str, str, Tensor]]:
    """Source of flow, criterion, and visibility forward and backward."""
    for criterion in CRITERIA:
        yield "truth", criterion, visibility(truth.flow, truth.flow.flip(0), criterion)
        for name in estimators:
            pairs = [(0, 1), (1, 0)]
            fields = fields_of(load_estimator(name), frames_of(scene), criterion, pairs)
            yield name, criterion, torch.cat([fields[pair].visible for pair in pairs])


def mask_rows(folder: Path, estimators: Sequence[str]) -> list[Row]:
    """Published occlusion masks; sparse ones, which tell border exits alone, are left out."""
    rows = []
    for case in ground_truth(folder):
        if case.visible is None or not case.known.all():
            continue
        for name in estimators:
            row: Row = {"pair": case.name, "flow": name}
            for criterion in CRITERIA:
                field = fields_of(load_estimator(name), case.frames, criterion, [(0, 1)])[0, 1]
                row[criterion] = f1([counts(field.visible[0], case.visible)])
            rows.append(row)
    return rows


def border_rows(clips: Sequence[tuple[str, Tensor]], estimators: Sequence[str]) -> list[Row]:
    """Hidden shares in quiet rings, of groups of clips uint8 [5, 3, h, w]."""
    rows = []
    for name in estimators:
        tallies: dict[tuple[str, str], Tensor] = defaultdict(lambda: torch.zeros(8).long())
        for group, clip in clips:
            steps = [(i, i + 1) for i in range(len(clip) - 1)]
            pairs = steps + [(j, i) for i, j in steps]
            fields = {c: fields_of(load_estimator(name), clip, c, pairs) for c in CRITERIA}
            clear = [pair for pair in pairs if fields[BEFORE][pair].visible.float().mean() > CLEAR]
            for criterion, found in fields.items():
                sums = [tally([found[pair] for pair in some]) for some in (clear, pairs)]
                if set(steps) <= set(clear):
                    chained = tally([reduce(compose, [found[pair] for pair in steps])])
                else:
                    chained = tally([])
                tallies[group, criterion] += torch.cat((sums[0], sums[1][:2], chained[:2]))
        for (group, criterion), counted in tallies.items():
            quiet, lost, hidden, ring, quiet_all, lost_all, quiet_chain, lost_chain = (
                counted.tolist()
            )
            rows.append(
                {
                    "clips": group,
                    "flow": name,
                    "criterion": criterion,
                    "quiet ring": lost / quiet,
                    "four hops": lost_chain / quiet_chain,
                    "quiet ring, all pairs": lost_all / quiet_all,
                    "of hidden, in ring": ring / hidden if hidden else 0.0,
                }
            )
    return rows


def cost_rows(clips: Sequence[tuple[str, Tensor]], estimators: Sequence[str]) -> list[Row]:
    """Processor time of a field, medians over the clips' first pairs, both directions taken."""
    rows = []
    for name in estimators:
        estimator = load_estimator(name)
        taken: dict[str, list[float]] = defaultdict(list)
        for _, clip in clips:
            frames, start = clip[:2], time.process_time()
            flows = estimator.clip(frames, [(0, 1), (1, 0)])[0]
            taken["flow"].append(time.process_time() - start)
            start = time.process_time()
            visibility(flows, flows.flip(0), BEFORE)
            taken[BEFORE].append(time.process_time() - start)
            start = time.process_time()
            matched_visibility(frames, flows)
            taken[DEFAULT_CRITERION].append(time.process_time() - start)
        medians = {f"{key}, ms": 500 * statistics.median(times) for key, times in taken.items()}
        rows.append({"cost of a field": name, **medians})
    return rows


def show(rows: Sequence[Row]) -> None:
    """Rows of one kind as a Markdown table."""
    print("| " + " | ".join(rows[0]) + " |\n" + "|---" * len(rows[0]) + "|")
    for row in rows:
        cells = [
            "-" if v is None else v if isinstance(v, str) else f"{v:.3f}" for v in row.values()
        ]
        print("| " + " | ".join(cells) + " |")
    print()


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Run the benchmark; without --data on scenes and a still picture with noise."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with flow_gt and videos")
    parser.add_argument("--estimators", default="dis,variational")
    parser.add_argument("--seeds", default="0,2,3", help="of the scenes")
    parser.add_argument("--json", type=Path, help="also write the rows")
    options = parser.parse_args(arguments)
    estimators = options.estimators.split(",")
    clips = [("still noise", still_noise(seed)) for seed in range(3)]
    tables = [scene_rows(estimators, [int(seed) for seed in options.seeds.split(",")])]
    if options.data:
        tables.append(mask_rows(options.data / "flow_gt", estimators))
        clips += [("videos", clip[:5]) for clip in read_clips(options.data)]
    tables += [border_rows(clips, estimators), cost_rows(clips, estimators)]
    print(f"{machine()}\n")
    for table in tables:
        show(table)
    rows = [row for table in tables for row in table]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return rows


if __name__ == "__main__":
    main()
