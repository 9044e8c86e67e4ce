"""What the batches of a loader cost; imported by both sides of benchmarks/loader.py."""

import time
from collections.abc import Iterable
from itertools import islice
from typing import Any

import psutil
import torch

BATCH = 8
Tensors = tuple[torch.Tensor, ...]


def processor_seconds() -> float:
    """Of this process and all that it started and that still live."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return sum(time.user + time.system for time in times)


def resident_mib() -> float:
    """As `processor_seconds`; shared pages are counted once."""
    this = psutil.Process()
    family = (this, *this.children(recursive=True))
    return sum(process.memory_full_info().pss for process in family) / 2**20


def timed(batches: Iterable[Tensors], count: int, warm: int) -> dict[str, Any]:
    """What `count` batches take after the first `warm` of them, and what they are."""
    stream = iter(batches)
    next(stream)
    first_s = time.time() - psutil.Process().create_time()
    for _ in range(warm - 1):
        next(stream)
    processor, start = processor_seconds(), time.perf_counter()
    for batch in islice(stream, count):
        if not all(tensor.is_contiguous() for tensor in batch):
            raise ValueError("a tensor is not contiguous")
    seconds, processor = time.perf_counter() - start, processor_seconds() - processor
    return {
        "clips_s": count * BATCH / seconds,
        "processor_ms": 1e3 * processor / (count * BATCH),
        "first_s": first_s,
        "resident_mib": resident_mib(),
        "shapes": [[str(tensor.dtype), *tensor.shape] for tensor in batch],
    }
