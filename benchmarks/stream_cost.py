"""What a clip of the stream costs beside a bare loop that decodes the same bytes from memory.

    python benchmarks/stream_cost.py --data FOLDER [--rounds 5] [--batches 16] [--json rows.json]
    python benchmarks/stream_cost.py --dataset DATASET ...

FOLDER's videos are built into a dataset at 256x384, 16 frames a clip, with DIS flow at level 1. The
ways take turns; processor time is that of all threads, and holds on a machine that does other
things too. `planes` is the host's part where RGB is made on the device.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Literal
from unittest.mock import patch

import numpy as np
import torch

from flow_cache import decode_fields
from shards import Dataset, ShardReader, Store, decode_rgb
from trainer import PlainRecipe, Source, Stream, StreamConfig
from trainer.stream.device import Delivery

BATCH, WARM = 8, 6


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """One way to batches."""

    bare: bool = False
    stride: int = 1
    flow: bool = False
    threads: int = 1
    rgb_on: Literal["host", "device"] = "host"

    @property
    def name(self) -> str:
        what = "bare loop" if self.bare else "stream"
        colour = ", planes" if self.rgb_on == "device" else ""
        return f"{what}, stride {self.stride}{', flow' if self.flow else ''}{colour}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """Medians of the rounds, and the ratio to the processor time of the bare loop."""

    way: Way
    processor_ms: float
    to_bare: float
    clips_s: float


WAYS = tuple(
    Way(bare=bare, stride=stride, flow=flow, threads=threads)
    for flow, stride in ((False, 1), (False, 2), (False, 4), (True, 1))
    for threads in ((1, 2) if stride == 1 else (1,))
    for bare in (True, False)
) + tuple(Way(stride=stride, rgb_on="device") for stride in (1, 4))


def bare_loop(dataset: Dataset, frames: int, way: Way) -> Generator[tuple[torch.Tensor, ...]]:
    """Decodes clips that lie in memory into two batches in turn: frames, flow, visibility."""
    clips = min(8 * BATCH, sum(dataset.shard_rows))
    layer = dataset.layer() if way.flow else None
    reader = ShardReader(dataset, layer, columns=("height", "width"))
    shown = range(0, frames, way.stride)
    pairs = [(i, i + 1) for i in range(frames - 1)] if way.flow else []
    held = [
        (reader.member(row, "mp4"), reader.fields(row, pairs) if pairs else ())
        for row in range(clips)
    ]
    height, width = (reader.value(0, side) for side in ("height", "width"))
    images = np.zeros((2, BATCH, len(shown), 3, height, width), np.uint8)
    flow = np.zeros((2, BATCH, len(pairs), 2, height, width), np.float32)
    visible = np.zeros((2, BATCH, len(pairs), height, width), np.bool_)

    def fill(half: int, place: int, clip: int) -> None:
        video, blobs = held[clip]
        decode_rgb(video, shown, images[half, place])
        decode_fields(blobs, [*flow[half, place]], [*visible[half, place]])

    def start(number: int) -> list[Future[None]]:
        rows = [(number * BATCH + place) % clips for place in range(BATCH)]
        return [pool.submit(fill, number % 2, place, row) for place, row in enumerate(rows)]

    with ThreadPoolExecutor(way.threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        number, ahead = 0, start(0)
        while True:
            number, now, ahead = number + 1, ahead, start(number + 1)
            for future in now:
                future.result()
            half = (number - 1) % 2
            yield tuple(torch.from_numpy(part[half]) for part in (images, flow, visible))


def settled() -> float:
    """Processor seconds, once the threads ahead of the loop have come to rest."""
    before, now = -1.0, time.process_time()
    while now - before > 0.002:
        time.sleep(0.05)
        before, now = now, time.process_time()
    return now


def stream(dataset: Dataset, frames: int, way: Way) -> Generator[None]:
    config = StreamConfig(
        frames=frames, batch=BATCH, threads=way.threads, window=8, rgb_on=way.rgb_on
    )
    source = Source(dataset=dataset, layer=dataset.layer() if way.flow else None)
    recipe = PlainRecipe(frames, stride=way.stride, flow=way.flow)
    with patch.object(Delivery, "__call__", lambda _, batch: batch):  # the device's part left out
        for _ in Stream(source, config, recipe, seed=0):
            yield


def cost(dataset: Dataset, frames: int, way: Way, batches: int) -> tuple[float, float]:
    """(processor ms a clip, clips a second) after the first batches."""
    ways = bare_loop if way.bare else stream
    with closing(ways(dataset, frames, way)) as loop:
        next(islice(loop, WARM - 1, None))
        processor, begin = settled(), time.perf_counter()
        next(islice(loop, batches - 1, None))
        seconds = time.perf_counter() - begin
        return 1e3 * (settled() - processor) / (batches * BATCH), batches * BATCH / seconds


def measure(dataset: Dataset, frames: int, batches: int, rounds: int) -> list[Row]:
    """One row for each way."""
    found = {way: [cost(dataset, frames, way, batches)] for way in WAYS}
    for _ in range(rounds - 1):
        for way, costs in found.items():
            costs.append(cost(dataset, frames, way, batches))
    medians = {way: np.median(costs, axis=0).tolist() for way, costs in found.items()}
    return [
        Row(
            way=way,
            processor_ms=processor,
            to_bare=processor / medians[replace(way, bare=True, rgb_on="host")][0],
            clips_s=clips_s,
        )
        for way, (processor, clips_s) in medians.items()
    ]


def built(data: Path, folder: Path) -> Path:
    """A dataset of the videos of a folder."""
    out = folder / "dataset"
    size = ("--size", "256x384", "--frames", "16", "--clips-per-shard", "32")
    command = (Path(sys.executable).with_name("fluxshard"), "build", data, out, *size)
    subprocess.run([*command, "--flow", "dis", "--levels", "1"], check=True)
    return out


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--data", type=Path, help="folder with videos")
    given.add_argument("--dataset", help="a dataset with a flow layer")
    parser.add_argument("--frames", type=int, default=16, help="of a sample")
    parser.add_argument("--batches", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the rows")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        url = options.dataset or str(built(options.data, Path(folder)))
        rows = measure(Dataset(Store(url)), options.frames, options.batches, options.rounds)
    facts = [platform.processor() or platform.machine(), f"{os.cpu_count()} cores"]
    print(", ".join([*facts, *(f"{x} {version(x)}" for x in ("av", "torch"))]), end="; ")
    print(f"load {os.getloadavg()[0]:.1f}; {options.frames} frames, batches of {BATCH}\n")
    print("way                          threads  processor ms a clip  to bare  clips a second")
    for row in rows:
        print(
            f"{row.way.name:28} {row.way.threads:7} {row.processor_ms:20.2f} {row.to_bare:8.2f} "
            f"{row.clips_s:15.1f}"
        )
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))
    return rows


if __name__ == "__main__":
    main()
