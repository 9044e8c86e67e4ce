"""How fast a build is: beside a bare loop of the same estimator calls, and beside video2dataset.

    python benchmarks/build.py --data FOLDER [--peer PYTHON] [--rounds 3] [--quick] [--json FILE]

Three videos of FOLDER (or its subfolder `videos`) make 41 clips of 17 frames at 256x384, all in one
shard. The ways take turns, each in processes of its own:

    bare        one thread decodes, resizes, calls the estimator on the same pairs, writes nothing
    floor       and what no build can leave out: x264, and for each field one sampling and zstd
    ours        the whole build, flow at levels 1, 2, 4 in both directions; 1 worker, and 2
    peer        video2dataset's optical-flow stage on the same clips in two shards, two processes;
                forward flow of neighbours. PYTHON is that of `benchmarks/video2dataset.sh`

Seconds are from the first decoded frame to the last committed byte, without start-up, scan and
plan. With --json every run is kept: a script that was stopped goes on where it was.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from build_peers import FRAMES, LEVELS, SIZE, Figures, bare, peak_mib, peer

from flow_cache import DEFAULT_CRITERION, load_estimator
from pipeline.building.make_dataset import make_dataset
from pipeline.building.shard import settle_worker
from pipeline.cluster import connect
from pipeline.planning.config import BuildConfig
from pipeline.source.inputs import find_sources
from shards import Dataset, Store, clips_of

VIDEOS = ("making_cake.mp4", "yoga.mp4", "carphone_pristine.mp4")
QUICK = VIDEOS[-1:]


def ours(sources: Sequence[str], folder: Path, flow: str, workers: int, occlusion: str) -> Figures:
    """A build of all the clips in one shard."""
    config = BuildConfig(
        size=SIZE,
        frames=FRAMES,
        flow=flow,
        levels=LEVELS,
        directions=("forward", "backward"),
        occlusion=occlusion,
    )
    seen: list[tuple[float, int]] = []
    with connect(None, workers) as client:
        client.wait_for_workers(workers)
        client.run(settle_worker)  # loads what a task needs: start-up is not counted
        client.run(load_estimator, flow)
        client.run(import_module, "webdataset")
        work: list[float] = []

        def show(stage: str, done: int, _: int) -> None:
            if stage == "build" and not seen:
                work.extend(client.run(time.process_time).values())
            if stage == "build":
                seen.append((time.perf_counter(), done))

        began = time.perf_counter()
        found, missing = find_sources(sources)
        outcome = make_dataset(found, missing, Store(str(folder)), config, client, show)
        whole = time.perf_counter() - began
        cpu = sum(client.run(time.process_time).values()) - sum(work)
        peak = max(client.run(peak_mib).values())
    assert not outcome.failed, outcome.failed
    stored = sum(path.stat().st_size for path in folder.glob("flow/*/*.tar"))
    pairs = outcome.costs.computed.total()
    return {
        "pairs": pairs,
        "seconds": seen[-1][0] - seen[0][0],
        "whole": whole,
        "cpu": cpu,
        "bytes": stored / pairs if pairs else 0.0,
        "peak_MiB": peak,
        "stages": dict(outcome.costs.seconds),
    }


def run_one(way: str, sources: Sequence[str], plan: Path, python: str, occlusion: str) -> Figures:
    """One run of one way, in this process."""
    kind, _, rest = way.partition(" ")
    flow, _, workers = rest.partition(" ")
    with tempfile.TemporaryDirectory(dir=plan.parent) as name:
        match kind:
            case "bare" | "floor":
                clips = clips_of(Dataset(plan).clips)
                return bare(clips, flow, floor=kind == "floor")
            case "ours":
                return ours(sources, Path(name) / "dataset", flow, int(workers), occlusion)
            case _:
                return peer(python, plan / "clips" / "000000.tar", Path(name))


def in_turns(ways: Sequence[str], rounds: int, keep: Path | None, run: Callable) -> Figures:
    """Figures of every run of every way: those that `keep` has, and the others now."""
    runs: Figures = json.loads(keep.read_text()) if keep and keep.exists() else {}
    for number in range(rounds):
        for way in ways:
            if len(runs.setdefault(way, [])) <= number:
                print(f"round {number + 1} of {rounds}: {way}", file=sys.stderr, flush=True)
                runs[way].append(run(way))
                if keep:
                    keep.write_text(json.dumps(runs, indent=2))
    return runs


def report(runs: Figures) -> None:
    """Print the figures as tables: medians over the rounds."""

    def median(way: str, name: str) -> float:
        return statistics.median(row[name] for row in runs[way] if name in row)

    rate = {way: statistics.median(r["pairs"] / r["seconds"] for r in runs[way]) for way in runs}
    names = ("pairs", "seconds", "pairs/s", "cpu ms", "kB/pair", "peak MiB")
    print(f"{'way':20}" + "".join(f"{name:>10}" for name in names))
    for way, (row, *_) in runs.items():
        pairs, seconds, peak = (median(way, name) for name in ("pairs", "seconds", "peak_MiB"))
        cpu = f"{1000 * median(way, 'cpu') / pairs:10.1f}" if "cpu" in row else f"{'':10}"
        size = f"{median(way, 'bytes') / 1000:10.1f}" if "bytes" in row else f"{'':10}"
        print(f"{way:20}{pairs:10.0f}{seconds:10.1f}{rate[way]:10.1f}{cpu}{size}{peak:10.0f}")
    for flow in [way.split()[1] for way in runs if way.startswith("bare")]:
        ours_1 = f"ours {flow} 1"
        for kind in ("bare", "floor"):
            speed = rate[ours_1] / rate[f"{kind} {flow}"]
            work = median(f"{kind} {flow}", "cpu") / median(ours_1, "cpu")
            print(f"\n{flow}, one worker: {speed:.0%} of the pairs/s of the {kind} loop, ", end="")
            print(f"{work:.0%} by processor time", end="")
        stages = runs[ours_1][0]["stages"]
        shares = [f"{stage} {s / sum(stages.values()):.0%}" for stage, s in stages.items()]
        print("\n    of the worker's time: " + ", ".join(shares))
    if {"ours dis 1", "ours dis 2"} <= runs.keys():
        whole = median("ours dis 1", "whole") / median("ours dis 2", "whole")
        gain = rate["ours dis 2"] / rate["ours dis 1"]
        print(f"\none shard, 1 to 2 workers: {gain:.2f} times; with scan and plan {whole:.2f}")
    if "peer" in runs:
        share = median("ours dis 2", "bytes") / median("peer", "bytes")
        times = rate["ours dis 2"] / rate["peer"]
        print(
            f"\ndis, of video2dataset: {times:.1f} times its pairs/s, {share:.1%} of its bytes/pair"
        )


def facts() -> str:
    """The machine and the versions."""
    cpu = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(": ")[1] for line in lines if line.startswith("model name")]
        cpu = names[0] if names else cpu
    packages = ("opencv-python-headless", "torch", "av", "numpy", "dask")
    load = f"load {os.getloadavg()[0]:.1f}"
    return ", ".join(
        [cpu, f"{os.cpu_count()} cores", load, *(f"{p} {version(p)}" for p in packages)]
    )


def main(arguments: Sequence[str] | None = None) -> Figures:
    """Run the benchmark, or one way of it in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the videos")
    parser.add_argument("--peer", default="", help="the python that has video2dataset")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--flow", default="dis,variational", help="estimators to compare")
    parser.add_argument("--occlusion", default=DEFAULT_CRITERION, help="of our builds")
    parser.add_argument("--quick", action="store_true", help="7 clips, one round")
    parser.add_argument("--videos", default="", help="names in the folder, in place of the three")
    parser.add_argument("--json", type=Path, help="keep every run here, and go on from it")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--plan", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    folder = options.data / "videos" if (options.data / "videos").is_dir() else options.data
    names = options.videos.split(",") if options.videos else QUICK if options.quick else VIDEOS
    sources = [str(folder / name) for name in names]
    if options.one:
        print(
            json.dumps(run_one(options.one, sources, options.plan, options.peer, options.occlusion))
        )
        return {}
    kinds = ("bare {}", "floor {}", "ours {} 1")
    ways = [kind.format(flow) for flow in options.flow.split(",") for kind in kinds]
    ways = [*ways, "ours dis 2", *(["peer"] if options.peer else [])]
    rounds = 1 if options.quick else options.rounds
    with tempfile.TemporaryDirectory() as name:
        plan = Path(name) / "plan"
        child = [sys.executable, __file__, *(arguments or sys.argv[1:]), f"--plan={plan}"]

        def run(way: str) -> Figures:
            done = subprocess.run(
                [*child, "--one", way], check=True, capture_output=True, text=True
            )
            return json.loads(done.stdout.splitlines()[-1])

        with connect(None, 1) as client:
            config = BuildConfig(size=SIZE, frames=FRAMES, flow="none")
            make_dataset(*find_sources(sources), Store(str(plan)), config, client, lambda *_: None)
        print(facts() + "\n")
        runs = in_turns(ways, rounds, options.json, run)
    report(runs)
    return runs


if __name__ == "__main__":
    main()
