"""How well clips are mixed: the order of our stream beside webdataset's and Mosaic Streaming's.

    python benchmarks/shuffle_quality.py --videos 2000 --rivals .rivals [--json FILE]

A synthetic dataset: each video gives 2 to 18 neighbouring clips, 64 clips a shard. Ours are stored
as the build lays them out, the others in the order of the videos, as their writers do, and are read
with what their manuals recommend. Two epochs of each:

    displacement    mean distance of a clip's place in the epoch from its place on the disk, as a
                    share of the epoch; 1/3 if places are independent
    together        pairs of clips of one video in a batch of 256, as a multiple of what a uniform
                    shuffle of all clips gives
    epochs          rank correlation of the first and the second epoch; 0 if they are independent
    held            clips that are kept to shuffle so: their bytes (webdataset) or their index
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

PER_SHARD, BATCH, WINDOWS, BUFFER, BLOCK = 64, 256, (16, 32, 64, 128), 1000, 1 << 18
Order = npt.NDArray[np.int64]

# Both print, for two epochs, the places on disk in the order in which clips come.
WEBDATASET = f"""
import glob, json, sys, webdataset as wds
names = sorted(glob.glob(sys.argv[1] + "/*.tar"))
data = wds.WebDataset(names, shardshuffle=len(names), detshuffle=True, seed=0).shuffle({BUFFER})
print(json.dumps([[int(s["__key__"]) for s in data] for _ in range(2)]))
"""
MOSAIC = f"""
import json, sys, torch
library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
import numpy as np
from streaming.base.shuffle import get_shuffle
sizes = np.array(json.loads(sys.argv[1]))
print(json.dumps([get_shuffle("py1e", sizes, 1, 0, e, {BLOCK}).tolist() for e in range(2)]))
"""


def videos_of(count: int) -> Order:
    """The video of each clip, in the order of the videos."""
    return np.repeat(np.arange(count), np.random.default_rng(0).integers(2, 19, count))


def sizes_of(clips: int) -> list[int]:
    """Clips in each shard."""
    return [min(PER_SHARD, clips - start) for start in range(0, clips, PER_SHARD)]


def ours(videos: Order, window: int) -> tuple[Order, list[Order]]:
    """The video of each clip as the build lays them out, and two epochs."""
    from pipeline.planning.clip_plan import blocks
    from shards import Order as StreamOrder
    from shards.schema import CLIP_TABLE

    names = [field for field in CLIP_TABLE if field.name != "shard"]
    columns = {field.name: pa.nulls(len(videos), field.type) for field in names}
    columns["source_sha256"] = pa.array(videos.astype(str))
    columns["seekable"] = pa.array(np.ones(len(videos), bool))
    table = pa.table(columns)
    laid = pa.concat_tables(blocks([table], PER_SHARD, iter(range(len(videos)))))
    order = StreamOrder(shard_rows=tuple(sizes_of(len(videos))), seed=0, window=window)
    epochs = [order.rows(e * len(videos), (e + 1) * len(videos)) for e in range(2)]
    return np.array(laid["source_sha256"]).astype(np.int64), epochs


def webdataset(videos: Order, python: Path) -> list[Order]:
    from webdataset import ShardWriter

    with tempfile.TemporaryDirectory() as folder:
        with ShardWriter(f"{folder}/%06d.tar", maxcount=PER_SHARD, verbose=0) as writer:
            for place, video in enumerate(videos):
                writer.write({"__key__": f"{place:08}", "txt": str(video)})
        return printed(python, WEBDATASET, folder)


def printed(python: Path, program: str, argument: str) -> list[Order]:
    """What a rival's program prints."""
    libraries = python.parent.parent / "ffmpeg"
    done = subprocess.run(
        [python, "-c", program, argument],
        check=True,
        stdout=subprocess.PIPE,
        env=os.environ | {"LD_LIBRARY_PATH": f"{libraries}:{libraries}/hashed"},
    )
    return [np.array(epoch) for epoch in json.loads(done.stdout)]


def quality(videos: Order, epochs: list[Order]) -> dict[str, float]:
    """The three figures of the table."""
    count = len(videos)
    for epoch in epochs:
        assert np.array_equal(np.sort(epoch), np.arange(count)), "an epoch is all clips, once"
    places = [np.argsort(epoch) for epoch in epochs]
    _, sizes = np.unique(videos, return_counts=True)
    uniform = (sizes * (sizes - 1)).sum() / (count * (count - 1))
    shown = videos[epochs[0]][: count // BATCH * BATCH].reshape(-1, BATCH)
    same = np.mean([pairs(np.unique(batch, return_counts=True)[1]) for batch in shown])
    return {
        "displacement": float(np.mean([abs(p - np.arange(count)).mean() for p in places]) / count),
        "together": float(same / (uniform * BATCH * (BATCH - 1))),
        "epochs": float(np.corrcoef(places[0], places[1])[0, 1]),
    }


def pairs(sizes: Order) -> int:
    """Ordered pairs within groups of these sizes."""
    return int((sizes * (sizes - 1)).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=2000)
    parser.add_argument("--rivals", type=Path, default=Path(".rivals"))
    parser.add_argument("--json", type=Path, help="writes the rows there")
    asked = parser.parse_args()
    videos = videos_of(asked.videos)
    rows: dict[str, dict[str, Any]] = {}

    def add(name: str, held: int, find: Callable[[], tuple[Order, list[Order]]]) -> None:
        rows[name] = quality(*find()) | {"held": held}

    uniform = np.random.default_rng(1)
    add("uniform", len(videos), lambda: (videos, [uniform.permutation(len(videos)) for _ in "ab"]))
    for window in WINDOWS:
        add(f"ours, {window}", window * PER_SHARD, partial(ours, videos, window))
    common, mosaic = (asked.rivals / name / "bin" / "python" for name in ("common", "mosaic"))
    add("webdataset", BUFFER, lambda: (videos, webdataset(videos, common)))
    if mosaic.exists():
        sizes = json.dumps(sizes_of(len(videos)))
        add("mosaic", BLOCK, lambda: (videos, printed(mosaic, MOSAIC, sizes)))
    print(f"{len(videos):,} clips of {asked.videos:,} videos, Python {sys.version.split()[0]}\n")
    names = ("displacement", "together", "epochs", "held")
    print(f"{'order':14}" + "".join(f"{name:>14}" for name in names))
    for name, row in rows.items():
        print(f"{name:14}" + "".join(f"{row[n]:14.3f}" for n in names[:3]) + f"{row['held']:14,}")
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
