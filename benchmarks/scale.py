"""What grows with what: scans, plan, scheduler, index and first batch of 10 clips a video.

    python benchmarks/scale.py [--videos 10000 100000] [--shards 2000] [--json figures.json]

The world is made up and holds no pixels. Videos are empty files; results of their scans are written
as if they had been scanned. Shards are Parquet files as a build writes them, links to 32 different
ones, without tars. The scheduler's tasks do nothing; a shard of theirs has 64 clips. Every job runs
in a process of its own, which tells seconds of the clock and of CPU, and the peak of its memory.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Nothing of ours is imported here: each job measures what it imports itself.
LONG = 1000  # clips of a film, to tell what grows with videos from what grows with clips


@contextmanager
def measured(figures: dict[str, Any], name: str) -> Iterator[None]:
    """Seconds, CPU seconds and peak MiB of a body, into `figures`."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    clock, cpu, before = time.perf_counter(), time.process_time(), memory("VmRSS")
    yield
    figures[name] = {
        "s": time.perf_counter() - clock,
        "cpu_s": time.process_time() - cpu,
        "peak_MiB": memory("VmHWM"),
        "grown_MiB": memory("VmRSS") - before,
    }


def memory(kind: str) -> float:
    """`VmRSS` or its peak `VmHWM`, MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(kind))) / 1024


def job_plan(folder: str, videos: int, per_shard: int) -> dict[str, Any]:
    """What a client does between the scans and the first shard."""
    from scale_world import path_of

    from pipeline import BuildConfig
    from pipeline.building.closing import write_rejects
    from pipeline.building.make_dataset import open_manifest
    from pipeline.building.shard import PlannedShards
    from pipeline.planning.plan_dataset import plan_on
    from pipeline.planning.plan_files import write_plan
    from pipeline.planning.scan_all import scan_all
    from pipeline.planning.scanned_inputs import ScannedInputs
    from pipeline.planning.scans import Scans
    from pipeline.records import Source
    from shards import Store

    figures: dict[str, Any] = {"bare_MiB": memory("VmRSS")}
    config = BuildConfig(flow="none", clips_per_shard=per_shard)
    store = Store(f"{folder}/dataset")
    with measured(figures, "inputs"):
        sources = [Source(path=path_of(folder, number)) for number in range(videos)]
    with measured(figures, "open scans"):
        scans = Scans(store, config.scan_settings)
    with measured(figures, "look up"):
        nobody: Any = None  # all are known: no worker is asked
        places, events = scan_all(sources, scans, config, nobody, lambda *_: None)
    assert not events
    inputs = ScannedInputs(sources=sources, scans=scans, places=places, rejects=[])
    with measured(figures, "settle"):
        inputs = inputs.settled()
    out = Store(f"{folder}/plan")
    manifest = open_manifest(out, config)
    with measured(figures, "plan"):
        plan = plan_on(inputs, out, manifest, per_shard)
        write_rejects(out, plan.rejects)
        manifest = write_plan(out, manifest, plan, inputs.digest)
    with measured(figures, "shards"):
        shards = PlannedShards(out, manifest, (), config.crf)
    figures |= {"clips": sum(shards.sizes.values()), "shards_planned": len(shards.sizes)}
    figures |= {"scan_bytes": size_of(store, "scans"), "plan_bytes": size_of(out, "plan")}
    return figures


def size_of(store: Any, folder: str) -> int:
    return sum(map(store.size, store.files(folder)))


def job_tasks(folder: str, shards: int, per_shard: int) -> dict[str, Any]:
    """What handing out shards costs that do nothing."""
    from scale_world import CLIPS, clip_rows

    from pipeline.building.costs import Costs
    from pipeline.building.job import run_shards
    from pipeline.building.task import Task
    from pipeline.cluster import connect
    from shards import Store

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Nothing(Task):
        """A shard that is written in no time."""

        @property
        def stems(self) -> tuple[str, ...]:
            return ("clips/nothing",)

        def run(self) -> Costs:
            return Costs()

        def piece(self, *_: object) -> "Nothing":
            raise AssertionError("one worker: the last shards stay whole")

    rows = clip_rows(folder, 0, -(-per_shard // CLIPS)).slice(0, per_shard).combine_chunks()
    figures: dict[str, Any] = {"bare_MiB": memory("VmRSS")}
    with connect(None, 1) as client:
        tasks = (Nothing(store=Store(folder), shard=n, rows=rows, specs=()) for n in range(shards))
        with measured(figures, "hand out"):
            tally = run_shards(client, tasks, shards * per_shard, lambda *_: None)
    assert not tally.failed
    return figures | {"clips": shards * per_shard, "shards_planned": shards}


def job_index(folder: str, videos: int, per_shard: int) -> dict[str, Any]:
    """What a training process does before its first batch can be decoded."""
    figures: dict[str, Any] = {}
    with measured(figures, "import index"):
        from shards import Dataset
    with measured(figures, "open"):
        dataset = Dataset(f"{folder}/index-{per_shard}")
    with measured(figures, "import training"):
        from trainer.config import StreamConfig, TrainConfig
        from trainer.stream.engine import Stream
        from trainer.stream.source import Source
        from trainer.temporal.recipe import TrainRecipe
    with measured(figures, "first rows"):
        config = TrainConfig(stream=StreamConfig(batch=32))
        layer = dataset.layer()
        source = Source(dataset=dataset, layer=layer)
        stream = Stream(source, config.stream, TrainRecipe(config), seed=0)
        batch, _ = stream.prepare(0)
    with measured(figures, "next rows"):
        for _ in range(16):
            batch, _ = stream.prepare(batch.cursor.position)
    store = dataset.store
    sizes = [
        store.size(f"{dataset.place(where, dataset.shards[0])[1]}.parquet")
        for where in ("clips", f"flow/{layer.name}")
    ]
    return figures | {
        "clips": len(dataset),
        "shards_planned": len(dataset.shards),
        "manifest_bytes": store.size("manifest.json"),
        "index_bytes": sum(sizes) * len(dataset.shards),
    }


JOBS = {"plan": job_plan, "tasks": job_tasks, "index": job_index}
COLUMNS = ("s", "cpu_s", "peak_MiB", "grown_MiB")


def run_job(name: str, *arguments: object) -> dict[str, Any]:
    """A job in a process of its own."""
    command = [sys.executable, __file__, "--job", name, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    print(done.stdout.splitlines()[-1], file=sys.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def measure(folder: str, videos: int, shards: int) -> dict[str, dict[str, Any]]:
    """All jobs of one size, by name."""
    from scale_world import write_index, write_scans

    found: dict[str, dict[str, Any]] = {}
    longs = min(videos * 10, 1_000_000) // LONG
    for name, count, each in (("plan", videos, 10), (f"plan, {LONG} clips a video", longs, LONG)):
        write_scans(folder, count, each)
        found[name] = run_job("plan", folder, count, 64)
        for made in ("videos", "dataset", "plan"):
            shutil.rmtree(f"{folder}/{made}")
    for per_shard in (64, 256):
        write_index(f"{folder}/index-{per_shard}", videos, per_shard)
        found[f"index, {per_shard} a shard"] = run_job("index", folder, videos, per_shard)
    return found | {"tasks": run_job("tasks", folder, shards, 64)}


def show(videos: int, found: dict[str, dict[str, Any]]) -> None:
    """A table of one size."""
    print(f"\n{videos:,} videos, {10 * videos:,} clips")
    print(f"{'':36}" + "".join(f"{name:>11}" for name in COLUMNS))
    for job, figures in found.items():
        facts = {n: v for n, v in figures.items() if not isinstance(v, dict)}
        print(job + ": " + ", ".join(f"{name} {value:,.0f}" for name, value in facts.items()))
        for name, values in figures.items():
            if isinstance(values, dict):
                print(f"    {name:32}" + "".join(f"{values[c]:11.2f}" for c in COLUMNS))


def show_slopes(sizes: dict[int, dict[str, dict[str, Any]]]) -> None:
    """Between the two largest sizes: what more a unit costs, and 10^8 clips with that."""
    *_, (low, small), (high, large) = sorted(sizes.items())
    print(f"\nslope from {low:,} to {high:,} videos, and 10^8 clips with it")
    print(f"{'':44}{'CPU us':>9}{'bytes of':>10}{'bytes of':>10}{'10^8: CPU':>11}{'peak':>9}")
    print(f"{'':44}{'a clip':>9}{'a clip':>10}{'a shard':>10}{'s':>11}{'MiB':>9}")
    for job in large:
        for name, there in large[job].items():
            clips = large[job]["clips"] - small[job]["clips"]
            shards = large[job]["shards_planned"] - small[job]["shards_planned"]
            if not isinstance(there, dict) or not clips:
                continue
            here = small[job][name]
            cpu, peak = (there[c] - here[c] for c in ("cpu_s", "peak_MiB"))
            times = (1e8 - large[job]["clips"]) / clips
            print(
                f"{job + ': ' + name:44}{1e6 * cpu / clips:9.2f}{2**20 * peak / clips:10.1f}"
                f"{2**20 * peak / shards:10.0f}{there['cpu_s'] + times * cpu:11.1f}"
                f"{there['peak_MiB'] + times * peak:9.0f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="not used; every script here takes it")
    parser.add_argument("--videos", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument(
        "--shards",
        type=int,
        default=2_000,
        help="handed out at the first size, twice as many at the second, …",
    )
    parser.add_argument("--folder", help="for the made-up files; default a temporary one")
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--job", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        name, folder, *numbers = options.job
        print(json.dumps(JOBS[name](folder, *map(int, numbers))))
        return
    machine = f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    packages = ", ".join(f"{name} {version(name)}" for name in ("pyarrow", "distributed"))
    print(f"{machine}; Python {platform.python_version()}, {packages}")
    sizes: dict[int, dict[str, dict[str, Any]]] = {}
    for number, videos in enumerate(options.videos, start=1):
        with tempfile.TemporaryDirectory(prefix="scale-", dir=options.folder) as folder:
            sizes[videos] = measure(folder, videos, number * options.shards)
        show(videos, sizes[videos])
        sys.stdout.flush()
    if len(sizes) > 1:
        show_slopes(sizes)
    if options.json:
        Path(options.json).write_text(json.dumps(sizes, indent=1))


if __name__ == "__main__":
    main()
