"""What reuse of flow saves, and what looking it up costs.

    python benchmarks/flow_reuse.py [--data FOLDER] [--flow variational] [--json figures.json]

Builds a dataset of the videos in FOLDER (or its subfolder `videos`; default the demo's), then the
same again under another name: all its flow is copied. One worker, so that seconds are work. Then
looks up all sources of a catalog of a million clips, in a process of its own.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from flow_cache.reuse.catalog import Catalog
from flow_cache.reuse.entries import Entry, entry_table
from fluxshard.demo.videos import DEMO_CONFIG, make_videos
from pipeline.building.job import Outcome
from pipeline.building.make_dataset import make_dataset
from pipeline.cluster import connect
from pipeline.planning.config import BuildConfig
from pipeline.source.inputs import find_sources
from shards.store import Store
from shards.writer import write_table

RECIPE = "ab" * 32
CLIPS_A_VIDEO, CLIPS_A_SHARD = 5, 64

# Peak memory is that of a whole process, so the lookup runs in one that does nothing else.
_LOOK_UP = """
import json, sys, time
from flow_cache.reuse.catalog import open_catalog
from pyarrow import parquet
sources = parquet.read_table(sys.argv[2])["source"].to_pylist()
def peak():  # ru_maxrss would remember the process that started this one
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024
before, seconds = peak(), []
for _ in range(int(sys.argv[4])):
    began = time.perf_counter()
    found = open_catalog(sys.argv[1]).find(sys.argv[3], sources)
    seconds.append(time.perf_counter() - began)
print(json.dumps({"seconds": sorted(seconds)[len(seconds) // 2], "found": len(found.records),
                  "peak_MiB": peak(), "before_MiB": before}))
"""


def builds(sources: Sequence[str], config: BuildConfig, folder: Path) -> dict[str, Any]:
    """Seconds of a first build and of one that finds all its flow, and of their stages."""
    found, missing = find_sources(sources)
    catalog = Catalog(Store(folder / "catalog"))

    def build(name: str) -> tuple[float, Outcome]:
        began = time.perf_counter()
        url = str(folder / name)
        outcome = make_dataset(found, missing, Store(url), config, client, lambda *_: None, catalog)
        return time.perf_counter() - began, outcome

    with connect(None, 1) as client:
        figures: dict[str, Any] = {}
        for name in ("first", "again"):
            seconds, outcome = build(name)
            costs = outcome.costs
            figures[name] = {
                "seconds": seconds,
                "work": sum(costs.seconds.values()),
                "stages": costs.seconds,
                "computed": costs.computed.total(),
                "reused": costs.reused.total(),
            }
            figures["clips"] = outcome.clips
    flow = sum(path.stat().st_size for path in (folder / "first" / "flow").rglob("*"))
    (entry, _) = sorted((folder / "catalog").rglob("*.parquet"))
    return figures | {"flow_bytes": flow, "catalog_bytes": entry.stat().st_size}


def lookup(clips: int, folder: Path, repeats: int = 5) -> dict[str, float]:
    """Seconds and peak memory of finding every source of a catalog of so many clips."""
    videos = -(-clips // CLIPS_A_VIDEO)
    digests = np.random.default_rng(0).bytes(32 * videos)
    sources = [digests[n : n + 32] for n in range(0, len(digests), 32)]
    owner = np.repeat(np.arange(videos), CLIPS_A_VIDEO)[:clips]
    start = 17_000 * (np.arange(clips) % CLIPS_A_VIDEO)
    shards = -(-clips // CLIPS_A_SHARD)
    rows = pa.table(
        {
            "source_sha256": pa.array(sources, pa.binary(32)).take(pa.array(owner)),
            "shard": (np.arange(clips) // CLIPS_A_SHARD).astype(np.int32),
            "row": (np.arange(clips) % CLIPS_A_SHARD).astype(np.int32),
            "first_pts": start,
            "last_pts": start + 16_000,
        }
    )
    (folder / "owner").mkdir(parents=True)
    (folder / "owner" / "manifest.json").touch()
    entry = Entry(
        dataset=str(folder / "owner"),
        layer="synthetic-0",
        spec={},
        recipe=RECIPE,
        shards=tuple((f"{n:06d}", f"{n:064x}") for n in range(shards)),
        clips=clips,
        bytes=0,
    )
    write_table(Store(folder / "catalog"), entry.file, entry_table(entry, rows))
    write_table(Store(folder), "wanted", pa.table({"source": [s.hex() for s in sources]}))
    arguments = [str(folder / "catalog"), str(folder / "wanted"), RECIPE, str(repeats)]
    answer = subprocess.run(
        [sys.executable, "-c", _LOOK_UP, *arguments], check=True, capture_output=True, text=True
    )
    size = (folder / "catalog" / entry.file).stat().st_size
    return {**json.loads(answer.stdout), "clips": clips, "bytes": size}


def report(figures: dict[str, Any]) -> None:
    """Print the figures as tables."""
    first, again = figures["first"], figures["again"]
    stages = list(first["stages"])
    print(f"{figures['clips']} clips, {figures['flow']}, one worker\n")
    print("build     seconds    work" + "".join(f"{stage:>9}" for stage in stages) + "   fields")
    for name, row in (("first", first), ("again", again)):
        shares = "".join(f"{row['stages'][stage] / row['work']:9.1%}" for stage in stages)
        counts = f"{row['computed']} computed, {row['reused']} copied"
        print(f"{name:<8} {row['seconds']:8.1f} {row['work']:7.1f}{shares}   {counts}")
    print(f"\nratio: {first['seconds'] / again['seconds']:.1f} of all, ", end="")
    print(f"{first['work'] / again['work']:.1f} of the work in shards")
    print(f"catalog: {figures['catalog_bytes'] / figures['flow_bytes']:.3%} of the flow's bytes")
    found = figures["lookup"]
    print(
        f"\nlookup of {found['found']:,} of {found['clips']:,} clips: {found['seconds']:.2f} s, "
        f"peak {found['peak_MiB']:.0f} MiB ({found['before_MiB']:.0f} before), "
        f"file {found['bytes'] / 2**20:.1f} MiB"
    )


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with videos; default the demo's")
    parser.add_argument("--flow", default="variational", help="flow estimator")
    parser.add_argument("--tiny", action="store_true", help="small clips, a small catalog")
    parser.add_argument("--json", type=Path, help="also write the figures")
    options = parser.parse_args(arguments)
    config = BuildConfig(fps=DEMO_CONFIG.fps, flow=options.flow)
    if options.tiny:
        config = replace(config, size=(48, 64), frames=9)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.data:
            videos = options.data / "videos"
            sources = [str(videos if videos.is_dir() else options.data)]
        else:
            sources = make_videos(folder / "videos")[:: -1 if options.tiny else 1]
        figures = builds(sources, config, folder) | {"flow": options.flow}
        figures["lookup"] = lookup(10_000 if options.tiny else 1_000_000, folder / "lookup")
    report(figures)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))
    return figures


if __name__ == "__main__":
    main()
