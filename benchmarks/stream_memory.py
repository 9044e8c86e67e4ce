"""Whether a stream of pixels and flow grows: memory, threads and open files from batch to batch.

    python benchmarks/stream_memory.py --data FOLDER [--batches 10000] [--json rows.json]
    python benchmarks/stream_memory.py --dataset DATASET ...

FOLDER's videos are built into a dataset at 64x96, 9 frames a clip, with DIS flow at level 1; small
frames, so that ten thousand batches take minutes. The stream runs in a process of its own, and ends
with 1 if more than 16 MiB, a thread or a file came on top after the first fifth of the batches.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import psutil

BATCH, THREADS, ROWS = 4, 2, 10
ALLOWED_MIB = 16
Row = dict[str, float]


def footprint(process: psutil.Process) -> Row:
    """MiB in memory, threads, open files."""
    return {
        "rss_MiB": process.memory_info().rss / 2**20,
        "threads": process.num_threads(),
        "files": process.num_fds(),
    }


def job(url: str, batches: int) -> list[Row]:
    """The footprint of this process after each tenth of the batches."""
    from shards import Dataset
    from trainer import PlainRecipe, Source, Stream, StreamConfig

    dataset, rows = Dataset(url), []
    frames = int(dataset.manifest.config["frames"])
    config = StreamConfig(frames=frames, batch=BATCH, threads=THREADS, window=4)
    source = Source(dataset=dataset, layer=dataset.layer())
    process = psutil.Process()
    taken = iter(Stream(source, config, PlainRecipe(frames, flow=True), seed=0))
    for row in range(1, ROWS + 1):
        for batch in islice(taken, batches // ROWS):
            assert batch.flow is not None, "the recipe asks for flow"
        rows.append({"batches": row * (batches // ROWS), **footprint(process)})
    taken.close()
    return rows


def grown(rows: Sequence[Row]) -> list[str]:
    """What came on top after the first fifth of the batches."""
    first, last = rows[ROWS // 5 - 1], rows[-1]
    allowed = {"rss_MiB": ALLOWED_MIB, "threads": 0, "files": 0}
    return [name for name, most in allowed.items() if last[name] > first[name] + most]


def built(data: Path, folder: Path) -> Path:
    """A dataset of the videos of a folder."""
    out = folder / "dataset"
    size = ("--size", "64x96", "--frames", "9", "--clips-per-shard", "16")
    command = (Path(sys.executable).with_name("fluxshard"), "build", data, out, *size)
    subprocess.run([*command, "--flow", "dis", "--levels", "1"], check=True)
    return out


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--data", type=Path, help="folder with videos")
    given.add_argument("--dataset", help="a dataset with one flow layer, made with --frames")
    given.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--batches", type=int, default=10_000)
    parser.add_argument("--json", type=Path, help="also write the rows")
    options = parser.parse_args(arguments)
    if options.job:
        print(json.dumps(rows := job(options.job, options.batches)))
        return rows
    with tempfile.TemporaryDirectory() as folder:
        url = options.dataset or str(built(options.data, Path(folder)))
        command = [sys.executable, __file__, "--job", url, "--batches", str(options.batches)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: list[Row] = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, av {version('av')},"
        f" torch {version('torch')}; batches of {BATCH}, {THREADS} threads\n"
    )
    print("  batches   RSS, MiB   threads   open files")
    for row in found:
        print(f"{row['batches']:9} {row['rss_MiB']:10.1f} {row['threads']:9} {row['files']:12}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))
    if more := grown(found):
        sys.exit(f"grew: {', '.join(more)}")
    return found


if __name__ == "__main__":
    main()
