"""Our side of benchmarks/loader.py: the clips that all systems read, a bare loop, and the stream.

    python loader_ours.py write DATA OUT --clips N
    python loader_ours.py read {bare,stream} OUT --flow {none,stored} --workers N --batches N ...

`write` makes OUT/dataset, and OUT/clips with the same mp4 bytes as files and the same flow as
halves and as KITTI's PNG. `bare` decodes clips that lie in memory, on threads, into batches.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import torch
from loader_measure import BATCH, Tensors, timed

from flow_cache import decode_field
from shards import Dataset, ShardReader, Store, decode_clip
from trainer.config import PyramidConfig, StreamConfig
from trainer.stream.engine import Stream
from trainer.stream.source import Source
from trainer.temporal.plan import Supervision, window
from trainer.temporal.recipe import ClipFacts, SamplePlan
from trainer.temporal.stages import Stage, stages

HEIGHT, WIDTH, FRAMES, LAYER = 256, 384, 16, "dis"
PAIRS = tuple((i, i + 1) for i in range(FRAMES - 1))
WINDOW = window(0, FRAMES)
SLOTS = np.array(PAIRS, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Straight:
    """Every frame of a clip in order, and the flow of all neighbours or none."""

    flow: bool

    def group(self, batch_number: int) -> Stage:
        return stages(PyramidConfig(enabled=False))[0]

    def sample(self, position: int, clip: ClipFacts, group: Stage) -> SamplePlan:
        chains = tuple((pair,) for pair in PAIRS)
        wanted = Supervision(slots=SLOTS, chains=chains) if self.flow else None
        return SamplePlan(shown=WINDOW, levels=None, supervision=wanted)


def write(data: Path, out: Path, clips: int) -> None:
    """A dataset of `clips` clips, drawn from all that the videos hold, and the same as files."""
    fluxshard = Path(sys.executable).with_name("fluxshard")
    size = ("--size", f"{HEIGHT}x{WIDTH}", "--frames", str(FRAMES))
    subprocess.run([fluxshard, "scan", data, out / "scan", *size], check=True)
    table = pq.read_table(out / "scan" / "clips.parquet")
    pq.write_table(table.take(drawn(table["path"].to_pylist(), clips)), out / "drawn.parquet")
    flow = ("--flow", LAYER, "--levels", "1", "--clips-per-shard", "32")
    subprocess.run(
        [fluxshard, "build", "--clips", out / "drawn.parquet", out / "dataset", *flow], check=True
    )
    dataset = Dataset(Store(str(out / "dataset")))
    reader = ShardReader(dataset, dataset.layer(LAYER))
    (out / "clips").mkdir()
    for row in range(sum(dataset.shard_rows)):
        export(reader, row, out / "clips" / reader.value(row, "key"))


def drawn(videos: list[str], count: int) -> list[int]:
    """Some rows, as evenly from all videos as there are clips of them."""
    turns: Counter[str] = Counter()
    keyed = []
    for row in np.random.default_rng(0).permutation(len(videos)).tolist():
        keyed.append((turns[videos[row]], row))
        turns[videos[row]] += 1
    return sorted(row for _, row in sorted(keyed)[:count])


def export(reader: ShardReader, row: int, stem: Path) -> None:
    """STEM.mp4, STEM.npy and STEM/NN.png."""
    stem.with_suffix(".mp4").write_bytes(reader.member(row, "mp4"))
    flow = np.concatenate([decode_field(b).field.flow for b in reader.fields(row, PAIRS)])
    np.save(stem.with_suffix(".npy"), flow.astype(np.float16))
    stem.mkdir()
    for number, field in enumerate(flow):
        steps = np.clip(np.rint(64 * field + 32768), 0, 65535).astype(np.uint16)
        valid = np.ones_like(steps[0])
        cv2.imwrite(str(stem / f"{number:02}.png"), np.stack([valid, steps[1], steps[0]], axis=-1))


def bare(reader: ShardReader, flow: bool, workers: int, clips: int) -> Iterator[Tensors]:
    """The same tensors of clips in memory: no order, no reading, no look-ahead beyond a batch."""
    held = [
        (reader.member(row, "mp4"), reader.fields(row, PAIRS) if flow else [])
        for row in range(clips)
    ]
    frames = torch.empty(2, BATCH, FRAMES, 3, HEIGHT, WIDTH, dtype=torch.uint8)
    fields = torch.empty(2, BATCH, FRAMES - 1, 2, HEIGHT, WIDTH)
    visible = torch.empty(2, BATCH, FRAMES - 1, HEIGHT, WIDTH, dtype=torch.bool)

    def fill(half: int, place: int, clip: int) -> None:
        video, blobs = held[clip]
        frames[half, place] = torch.from_numpy(decode_clip(video))
        for pair, blob in enumerate(blobs):
            found = decode_field(blob).field
            fields[half, place, pair] = torch.as_tensor(found.flow[0])
            visible[half, place, pair] = torch.as_tensor(found.visible[0])

    def start(number: int) -> list:
        rows = [(number * BATCH + place) % clips for place in range(BATCH)]
        return [pool.submit(fill, number % 2, place, row) for place, row in enumerate(rows)]

    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        number, ahead = 0, start(0)
        while True:
            number, now, ahead = number + 1, ahead, start(number + 1)
            for future in now:
                future.result()
            half = (number - 1) % 2
            yield (frames[half], fields[half], visible[half]) if flow else (frames[half],)


def stream(dataset: Dataset, flow: bool, workers: int) -> Iterator[Tensors]:
    config = StreamConfig(frames=FRAMES, batch=BATCH, threads=workers, window=8)
    source = Source(dataset=dataset, layer=dataset.layer(LAYER) if flow else None)
    with closing(iter(Stream(source, config, Straight(flow), seed=0))) as batches:
        for batch in batches:
            found = batch.flow
            yield (batch.frames,) if found is None else (batch.frames, found.flow, found.visible)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    make, read = commands.add_parser("write"), commands.add_parser("read")
    make.add_argument("data", type=Path)
    make.add_argument("out", type=Path)
    make.add_argument("--clips", type=int, default=256)
    read.add_argument("system", choices=("bare", "stream"))
    read.add_argument("out", type=Path)
    read.add_argument("--flow", choices=("none", "stored"), default="none")
    for name in ("--workers", "--batches", "--warm"):
        read.add_argument(name, type=int, required=True)
    asked = parser.parse_args()
    if asked.command == "write":
        write(asked.data, asked.out, asked.clips)
        return
    torch.set_num_threads(1)
    dataset, flow = Dataset(Store(str(asked.out / "dataset"))), asked.flow == "stored"
    if asked.system == "stream":
        batches = stream(dataset, flow, asked.workers)
    else:
        reader = ShardReader(dataset, dataset.layer(LAYER) if flow else None)
        batches = bare(reader, flow, asked.workers, min(128, sum(dataset.shard_rows)))
    print(json.dumps(timed(batches, asked.batches, asked.warm)))


if __name__ == "__main__":
    main()
