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
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import torch
from loader_measure import BATCH, Tensors, timed
from stream_cost import Way, bare_loop

from flow_cache import decode_field
from shards import Dataset, ShardReader, Store
from trainer import PlainRecipe, Source, Stream, StreamConfig

HEIGHT, WIDTH, FRAMES, LAYER = 256, 384, 16, "dis"
PAIRS = tuple((i, i + 1) for i in range(FRAMES - 1))


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


def stream(dataset: Dataset, flow: bool, workers: int) -> Iterator[Tensors]:
    config = StreamConfig(frames=FRAMES, batch=BATCH, threads=workers, window=8)
    source = Source(dataset=dataset, layer=dataset.layer(LAYER) if flow else None)
    with closing(iter(Stream(source, config, PlainRecipe(FRAMES, flow=flow), seed=0))) as batches:
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
        way = Way(bare=True, flow=flow, threads=asked.workers)
        batches = (found if flow else found[:1] for found in bare_loop(dataset, FRAMES, way))
    print(json.dumps(timed(batches, asked.batches, asked.warm)))


if __name__ == "__main__":
    main()
