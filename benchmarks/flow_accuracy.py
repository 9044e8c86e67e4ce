"""Accuracy and speed of the flow estimators, beside OpenCV's Farneback.

    python benchmarks/flow_accuracy.py --data FOLDER [--unseen FOLDER] [--json FILE]

FOLDER holds `flow_gt` (pairs with ground truth: Middlebury, KITTI 2012, Sintel, FlyingChairs, in
their own file formats), `flow_gt_more` (further pairs, for the ratios by data set alone) and
`videos` (real clips without); any may be missing. Those ratios, of `variational` to DIS, are at
the pairs' own size and at `--size`; `--unseen` is a folder like `flow_gt` of pairs that nothing
was tuned on. Synthetic scenes with exact flow and occlusion always run. Estimators whose package
or weights are missing are named and left out. A pair is estimated in both directions for its
occlusion mask, and `ms` is half of that; the throughput line times a clip of 17 frames, 16 pairs
in a call. Times are medians.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import flow_tuning
import numpy as np
import torch
from flow_pairs import Case, ground_truth, real_pairs, resized, scenes
from torch import Tensor

from flow_cache.algebra import warp
from flow_cache.estimators import EstimatorUnavailable, load_estimator
from flow_cache.matching import matched_visibility
from flow_cache.occlusion import MATCHED, visibility
from fluxshard.demo.scenes import random_scene

Row = dict[str, Any]
Flow = Callable[[Tensor, list[tuple[int, int]]], tuple[Tensor, Tensor | None]]

LARGE = 10.0  # pixels: longer motion counts as large
METHODS: dict[str, dict[str, Any]] = {
    "variational": {},
    "dis": {},
    "dis-fast": {"preset": "fast"},
    "dis-ultrafast": {"preset": "ultrafast"},
    "raft_small": {},
    "raft_large": {},
    "dot": {},
}


def methods(wanted: Sequence[str]) -> dict[str, Flow]:
    """What runs here, by name; what does not is printed with the reason."""
    found: dict[str, Flow] = {}
    for name in wanted:
        if name == "farneback":
            found[name] = farneback
            continue
        estimator = name.split("-")[0] if name in METHODS else name
        try:
            found[name] = load_estimator(estimator, **METHODS.get(name, {})).clip
        except EstimatorUnavailable as error:
            print(f"{name} does not run here: {error}")
    return found


def farneback(frames: Tensor, pairs: list[tuple[int, int]]) -> tuple[Tensor, None]:
    """OpenCV's polynomial expansion with its usual parameters."""
    rgb = frames.movedim(1, -1).cpu().numpy()
    grey = [cv2.cvtColor(np.ascontiguousarray(x), cv2.COLOR_RGB2GRAY) for x in rgb]
    flows = []
    for i, j in pairs:
        start = np.zeros((*grey[i].shape, 2), np.float32)
        flow = cv2.calcOpticalFlowFarneback(grey[i], grey[j], start, 0.5, 5, 15, 3, 5, 1.2, 0)
        flows.append(torch.from_numpy(np.asarray(flow, np.float32)).movedim(-1, 0))
    return torch.stack(flows), None


def seconds(run: Callable[[], Any], rounds: int) -> float:
    """Median time of a call, on a GPU until its work is done."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def measure(case: Case, name: str, method: Flow, rounds: int, device: str) -> Row:
    """Errors of one method on one pair."""
    frames = case.frames.to(device)
    flow, native = method(frames, [(0, 1), (1, 0)])
    flow = flow.cpu()
    if native is not None:
        seen = native[0].cpu()
    elif name == "truth":  # exact at its edges
        seen = visibility(flow[:1], flow[1:], MATCHED)[0]
    else:
        seen = matched_visibility(case.frames, flow)[0]
    error = (flow[0] - case.truth).square().sum(0).sqrt()
    large = case.truth.square().sum(0).sqrt() > LARGE
    taken = seconds(lambda: method(frames, [(0, 1), (1, 0)]), rounds)
    return {
        "pair": case.name,
        "kind": case.kind,
        "estimator": name,
        "epe_all": mean(error, case.known),
        "epe_visible": None if case.visible is None else mean(error, case.visible),
        "epe_large": mean(error, case.known & large),
        **occlusion_scores(case, seen),
        "ms": taken * 1e3 / 2,
    }


def occlusion_scores(case: Case, seen: Tensor) -> Row:
    """Precision and recall of the occluded pixels, None where they are not known."""
    if case.visible is None:
        return {"occlusion_precision": None, "occlusion_recall": None, "occlusion_f1": None}
    hidden, found = ~case.visible & case.known, ~seen & case.known
    hits = float((hidden & found).sum())
    precision, recall = hits / max(int(found.sum()), 1), hits / max(int(hidden.sum()), 1)
    f1 = 2 * hits / max(int(found.sum() + hidden.sum()), 1)
    return {"occlusion_precision": precision, "occlusion_recall": recall, "occlusion_f1": f1}


def mean(values: Tensor, where: Tensor) -> float | None:
    return float(values[where].mean()) if where.any() else None


def photometric(name: str, label: str, frames: Tensor, method: Flow, device: str) -> Row:
    """Mean absolute difference in grey levels after warping the second frame back."""
    flow = method(frames.to(device), [(0, 1)])[0].cpu()
    first, second = frames.float().split(1)
    error = (warp(second, flow) - first).abs().mean()
    return {"pair": label, "kind": "video", "estimator": name, "warp_error": float(error)}


def throughput(name: str, method: Flow, size: tuple[int, int], rounds: int, device: str) -> Row:
    """Time a pair of a clip of 17 frames."""
    frames = torch.from_numpy(random_scene(0, size).clip(range(17))).to(device)
    pairs = [(i, i + 1) for i in range(16)]
    taken = seconds(lambda: method(frames, pairs), rounds)
    label = f"17 frames of {size[0]}x{size[1]}"
    return {"pair": label, "kind": "clip", "estimator": name, "ms": taken * 1e3 / 16}


def run(options: argparse.Namespace, data: Path | None, size: tuple[int, int]) -> list[Row]:
    """All rows; cases outside, so that methods of one pair are timed side by side."""
    wanted, rows = options.estimators.split(","), []
    available, device, rounds = methods(wanted), options.device, options.rounds
    folder = data / "flow_gt" if data and (data / "flow_gt").is_dir() else data
    for case in (*(ground_truth(folder) if folder else ()), *scenes(size)):
        if case.truth_back is not None:
            exact = torch.stack([case.truth, case.truth_back])
            rows.append(measure(case, "truth", lambda *_, exact=exact: (exact, None), 1, "cpu"))
        rows += [measure(case, name, m, rounds, device) for name, m in available.items()]
    if data and (data / "videos").is_dir():
        for label, frames in real_pairs(data / "videos"):
            rows += [photometric(name, label, frames, m, device) for name, m in available.items()]
    return rows + [throughput(name, m, size, rounds, device) for name, m in available.items()]


def show(rows: Sequence[Row], options: argparse.Namespace) -> None:
    """Print end-point errors by pair, then a summary by estimator."""
    names = list(dict.fromkeys(row["estimator"] for row in rows))
    errors = {(row["pair"], row["estimator"]): row["epe_all"] for row in rows if "epe_all" in row}
    print(f"{machine()}, {options.threads} threads, {options.device}\n\nEnd-point error, pixels")
    tested = [name for name in names if name != "truth"]
    print(f"{'':44}" + "".join(f"{name:>15}" for name in tested))
    for pair in dict.fromkeys(pair for pair, _ in errors):
        print(f"{pair:44}" + "".join(f"{errors[pair, name]:15.3f}" for name in tested))
    print(
        f"\n{'':15} EPE, geometric mean             occlusion on scenes      warp error"
        f"       ms per pair\n{'':15}    all  visible    large     precision  recall   F1"
        "    of videos   in clips"
    )
    for name in names:
        mine = [row for row in rows if row["estimator"] == name]
        print(f"{name:15} " + summary(mine))


def show_by_data_set(options: argparse.Namespace, size: tuple[int, int]) -> None:
    """Print the ratios of `variational` to DIS, at the pairs' own size and at `size`."""
    folders = [options.data / name for name in ("flow_gt", "flow_gt_more")] if options.data else []
    seen = [case for folder in folders for case in ground_truth(folder)]
    unseen = list(ground_truth(options.unseen)) if options.unseen else []
    if not seen and not unseen:
        return
    flow_tuning.show(seen, unseen, "own size")
    least = size[0] * size[1] / 2  # pixels: what is much smaller would be blurred, not resized
    at_size = [
        [resized(case, size) for case in cases if case.known.numel() >= least]
        for cases in (seen, unseen)
    ]
    flow_tuning.show(*at_size, options.size)


def summary(rows: Sequence[Row]) -> str:
    real = [row for row in rows if row["kind"] == "real"]
    synthetic = [row for row in rows if row["kind"] == "scene"]
    columns = [
        *(geometric(real, key) for key in ("epe_all", "epe_visible", "epe_large")),
        *(average(synthetic, f"occlusion_{key}") for key in ("precision", "recall", "f1")),
        average(rows, "warp_error"),
        average([row for row in rows if row["kind"] == "clip"], "ms"),
    ]
    widths = (7, 8, 8, 13, 7, 7, 11, 10)
    return " ".join(
        " " * (width - 1) + "-" if value is None else f"{value:{width}.3f}"
        for value, width in zip(columns, widths, strict=True)
    )


def average(rows: Sequence[Row], key: str) -> float | None:
    values = [row[key] for row in rows if row.get(key) is not None]
    return statistics.fmean(values) if values else None


def geometric(rows: Sequence[Row], key: str) -> float | None:
    values = [row[key] for row in rows if row.get(key)]
    return statistics.geometric_mean(values) if values else None


def machine() -> str:
    """What the figures depend on besides the code."""
    cpu = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.partition(": ")[2] for line in lines if "model name" in line), cpu)
    facts = f"{cpu}, {os.cpu_count()} cores, torch {torch.__version__}"
    return f"{facts}, opencv {version('opencv-python-headless')}"


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Run the benchmark; without --data on synthetic scenes alone."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with flow_gt and videos")
    parser.add_argument("--unseen", type=Path, help="folder of pairs that nothing was tuned on")
    parser.add_argument("--json", type=Path, help="also write the rows")
    parser.add_argument("--estimators", default=",".join([*METHODS, "farneback"]))
    parser.add_argument("--rounds", type=int, default=3, help="timings per pair")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", default="256x384", help="of the synthetic scenes, HxW")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(options.threads)
    height, width = map(int, options.size.split("x"))
    rows = run(options, options.data, (height, width))
    show(rows, options)
    show_by_data_set(options, (height, width))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return rows


if __name__ == "__main__":
    main()
