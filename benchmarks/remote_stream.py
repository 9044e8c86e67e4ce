"""What a stream over HTTP costs: a connection for each range, connections kept, a local cache.

    python benchmarks/remote_stream.py --data FOLDER [--delay 5] [--rounds 3] [--json rows.json]
    python benchmarks/remote_stream.py --dataset DATASET ...

FOLDER's videos are built into a dataset at 256x384, 16 frames a clip, with DIS flow at level 1. A
server on loopback, in a process of its own, waits `--delay` ms whenever a connection is opened, as
a network does. The ways take turns; each streams whole epochs of frames and flow, on two threads.

    local         from the disk
    each          over HTTP, a connection for each range
    kept          over HTTP, connections kept
    cached 1, 2   kept, and a cache that holds all: the epoch that fills it, and the next
    half 1, 2, 3  the same with a cache of half the size
"""

import argparse
import json
import multiprocessing
import os
import platform
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
import urllib3
from stream_cost import built

from shards import Dataset
from shards.storage import web
from trainer import PlainRecipe, Source, Stream, StreamConfig

BATCH, THREADS = 8, 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One way; medians of the rounds."""

    way: str
    clips_s: float
    processor_ms: float
    requests_a_clip: float
    connections_a_clip: float
    hit_share: float


class Files(SimpleHTTPRequestHandler):
    """A folder's files by ranges, slow to connect to."""

    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True
    delay_s = 0.0
    counts: Any = multiprocessing.Array("q", 2)  # connections, requests

    def setup(self) -> None:
        time.sleep(self.delay_s)
        self.count(0)
        super().setup()

    def count(self, which: int) -> None:
        with self.counts.get_lock():
            self.counts[which] += 1

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.count(1)
        path = Path(self.translate_path(self.path))
        data = path.read_bytes()
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if found:
            data = data[int(found[1]) : int(found[2]) + 1]
        self.send_response(206 if found else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def served(folder: Path, delay_s: float) -> Iterator[str]:
    """The address of a folder, from a process of its own."""
    Files.delay_s = delay_s
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(folder)))
    process = multiprocessing.get_context("fork").Process(target=server.serve_forever, daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        process.kill()
        process.join()
        server.server_close()


def epoch(url: str, cache: str = "", limit_gb: float = 64) -> Row:
    """One epoch of a stream that has just been opened."""
    dataset = Dataset(url)
    frames = int(dataset.manifest.config["frames"])
    config = StreamConfig(
        frames=frames, batch=BATCH, threads=THREADS, cache=cache, cache_gb=limit_gb
    )
    source = Source(dataset=dataset, layer=dataset.layer())
    stream = Stream(source, config, PlainRecipe(frames, flow=True), seed=0)
    batches, before = sum(dataset.shard_rows) // BATCH, list(Files.counts)
    processor, begin = time.process_time(), time.perf_counter()
    with closing(iter(stream)) as taken:
        for _ in islice(taken, batches):
            pass
    clips, facts = batches * BATCH, stream.totals.facts()
    seconds, processor = time.perf_counter() - begin, time.process_time() - processor
    connections, requests = (b - a for a, b in zip(before, Files.counts, strict=True))
    return Row(
        way="",
        clips_s=clips / seconds,
        processor_ms=1e3 * processor / clips,
        requests_a_clip=requests / clips,
        connections_a_clip=connections / clips,
        hit_share=facts["cache_hits"] / max(1, facts["cache_hits"] + facts["cache_misses"]),
    )


def once(local: str, url: str) -> dict[str, Row]:
    """A row for each way."""
    each = patch.object(web, "_connections", lambda *_: urllib3.PoolManager())
    rows = {"local": epoch(local)}
    with each:
        rows["each"] = epoch(url)
    rows["kept"] = epoch(url)
    with tempfile.TemporaryDirectory() as folder:
        whole = f"{folder}/whole"
        rows |= {f"cached {number}": epoch(url, whole) for number in (1, 2)}
        size = sum(path.stat().st_blocks * 512 for path in Path(whole).iterdir())
        half = partial(epoch, url, f"{folder}/half", size / 2e9)
        rows |= {f"half {number}": half() for number in (1, 2, 3)}
    return rows


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--data", type=Path, help="folder with videos")
    given.add_argument("--dataset", type=Path, help="a local dataset with a flow layer")
    parser.add_argument("--delay", type=float, default=5, help="ms to open a connection")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the rows")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        dataset = options.dataset or built(options.data, Path(folder))
        with served(dataset, options.delay / 1e3) as url:
            rounds = [once(str(dataset), url) for _ in range(options.rounds)]
    rows = [
        Row(**asdict(rounds[0][way]) | {"way": way} | middle([one[way] for one in rounds]))
        for way in rounds[0]
    ]
    facts = [platform.processor() or platform.machine(), f"{os.cpu_count()} cores"]
    print(", ".join([*facts, *(f"{x} {version(x)}" for x in ("av", "torch", "urllib3"))]), end="; ")
    print(f"load {os.getloadavg()[0]:.1f}; {options.delay:g} ms to open a connection\n")
    print("way         clips a second  processor ms  requests  connections a clip   found")
    for row in rows:
        print(
            f"{row.way:12} {row.clips_s:13.1f} {row.processor_ms:13.1f} {row.requests_a_clip:9.2f} "
            f"{row.connections_a_clip:19.3f} {row.hit_share:7.1%}"
        )
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))
    return rows


def middle(rows: Sequence[Row]) -> dict[str, float]:
    """Medians of what depends on the clock."""
    return {
        name: median(getattr(row, name) for row in rows) for name in ("clips_s", "processor_ms")
    }


if __name__ == "__main__":
    main()
