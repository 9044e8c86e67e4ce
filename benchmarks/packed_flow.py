"""Stored flow decoded by the host, or packed for a device that decodes it: time and bytes a clip.

    python benchmarks/packed_flow.py --dataset DATASET [--clips 8] [--rounds 3] [--json rows.json]

DATASET has a flow layer of level 1. The two ways take turns on the same fields, all pairs of
neighbours of a clip, from memory; times are processor time of the thread that works.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from flow_accuracy import machine

from flow_cache import decode_fields, open_fields, packed_room
from shards import Dataset, ShardReader

Row = dict[str, Any]


def fields_of(dataset: Dataset, clips: int) -> list[Sequence[bytes]]:
    """Of the first clips, all pairs of neighbours."""
    reader = ShardReader(dataset, dataset.layer(), columns=("frames",))
    rows = range(min(clips, sum(dataset.shard_rows)))
    lengths = [reader.value(row, "frames") for row in rows]
    pairs = [(first, first + 1) for first in range(min(lengths) - 1)]
    return [reader.fields(row, pairs) for row in rows]


def seconds(work: Callable[..., Any], *inputs: Any) -> tuple[float, Any]:
    """Processor time, and what came out."""
    began = time.thread_time()
    found = work(*inputs)
    return time.thread_time() - began, found


def measure(fields: Sequence[Sequence[bytes]], size: tuple[int, int], rounds: int) -> list[Row]:
    """Medians over clips and rounds, bytes as means over clips."""
    pairs = len(fields[0])
    flow, visible = torch.zeros(pairs, 2, *size), torch.zeros(pairs, *size, dtype=torch.bool)
    room, times = packed_room(pairs, size, torch.zeros), dict[str, list[float]](host=[], device=[])
    escapes = []
    for _ in range(rounds):
        for blobs in fields:
            rooms = [*flow.numpy()], [*visible.numpy()]
            times["host"].append(seconds(decode_fields, blobs, *rooms)[0])
            spent, used = seconds(open_fields, blobs, room)
            times["device"].append(spent)
            escapes.append(used)
    fixed = room.codes.nbytes + room.bits.nbytes + room.steps.nbytes
    travels = {
        "host": flow.nbytes + visible.nbytes,
        "device": fixed + room.escapes[0].nbytes * statistics.mean(escapes),
    }
    return [
        {"flow_on": on, "host_ms": 1e3 * statistics.median(times[on]), "mb": travels[on] / 1e6}
        for on in times
    ]


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dataset", required=True, help="folder or URL")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the rows")
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    dataset = Dataset(asked.dataset)
    height, width = dataset.layer().spec["size"]
    fields = fields_of(dataset, asked.clips)
    rows = measure(fields, (height, width), asked.rounds)
    print(machine())
    print(f"{len(fields)} clips, {len(fields[0])} fields each, {height}x{width}\n")
    print("flow_on   host, ms a clip   MB a clip")
    for row in rows:
        print(f"{row['flow_on']:8} {row['host_ms']:16.2f} {row['mb']:11.2f}")
    if asked.json:
        asked.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1))
    return rows


if __name__ == "__main__":
    main()
