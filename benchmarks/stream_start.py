"""From a killed run to its next batch, in the middle of an epoch: plain, with a filter, at a rate.

    python benchmarks/stream_start.py [--clips 1000000 10000000] [--json figures.json]

The index is made up, 256 clips a shard, without tars: what is measured is all that happens before
the first byte of a clip is read. Each line is a process of its own; the second with a filter finds
the counts that the first one kept.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from scale import measured

PER_SHARD = 256
FILTER = "frames >= 17 and (static is None or static < 0.2)"
CASES = (("", 0.0), (FILTER, 0.0), (FILTER, 0.0), ("", 24.0))  # a filter, frames a second
COLUMNS = ("s", "cpu_s", "peak_MiB")


def start(url: str, where: str, window: int = 64, fps: float = 0.0) -> dict[str, Any]:
    """What a resumed process does before it can decode its first batch of 32, and what it holds."""
    from shards import Dataset
    from trainer import PlainRecipe, Source, Stream, StreamConfig

    figures: dict[str, Any] = {}
    with measured(figures, "open"):
        dataset = Dataset(url)
    config = StreamConfig(frames=16, fps=fps or None, batch=32, window=window)
    with measured(figures, "filter, order"):
        source = Source(dataset=dataset, where=where, layer=dataset.layer())
        stream = Stream(source, config, PlainRecipe(16, flow=True), seed=0)
    state = stream.state_dict()
    state["position"] = stream.places.samples[0].order.total // 2
    with measured(figures, "state, rows of the next batch"):
        stream.load_state_dict(state)
        batch, _ = stream.prepare(stream.cursor.position)
    assert len(batch) == 32
    with measured(figures, "index of three windows"):  # as many as are held
        for shard in range(min(3 * window, len(dataset.shards))):
            stream.places.samples[0].load(shard)
    return figures | {"samples": stream.places.samples[0].order.total}


def run(url: str, where: str, window: int, cache: str, fps: float = 0.0) -> dict[str, Any]:
    """`start` in a process of its own."""
    command = [sys.executable, __file__, "--job", url, where, "--window", str(window)]
    command += ["--fps", str(fps)]
    env = os.environ | {"XDG_CACHE_HOME": cache}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="not used; every script here takes it")
    parser.add_argument("--clips", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--window", type=int, default=64, help="shards mixed with each other")
    parser.add_argument("--fps", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--job", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        url, where = options.job
        print(json.dumps(start(url, where, options.window, options.fps)))
        return
    from scale_world import CLIPS, write_index

    print(
        f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; "
        f"Python {platform.python_version()}"
    )
    found = []
    for clips in options.clips:
        with tempfile.TemporaryDirectory(prefix="start-") as folder:
            url, cache = f"{folder}/dataset", f"{folder}/cache"
            write_index(url, clips // CLIPS, PER_SHARD)
            for where, fps in CASES:
                figures = run(url, where, options.window, cache, fps)
                found.append({"clips": clips, "where": where, "fps": fps, **figures})
                asked = f"where {where or 'all'}{f', at {fps:g} fps' if fps else ''}"
                print(f"\n{clips:,} clips, {asked}: {figures['samples']:,} samples")
                for name, values in figures.items():
                    if isinstance(values, dict):
                        cells = "".join(f"{column} {values[column]:9.2f}  " for column in COLUMNS)
                        print(f"    {name:32}{cells}")
                sys.stdout.flush()
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
