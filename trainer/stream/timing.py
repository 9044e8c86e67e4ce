"""Where the time of a stream goes: always counted, shown as a table."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping

import torch

from shards import Stopwatch

_MEANING = {
    "plan": "what each sample shows, and memory for it",
    "read": "bytes of clips and fields, checked",
    "decode": "clips to pixels",
    "flow": "fields decoded and composed",
    "stall": "the consumer waited for a batch",
    "transfer": "batches to the device",
    "gpu": "of copies on a GPU, and of RGB and flow made there; training goes on beside it",
}
_CACHE = ("cache_hits", "cache_misses", "cache_damaged")


class GpuClock:
    """How long work took on a GPU, by its own clock; nobody waits for the answer.

    `with clock: …` around what is asked of the current CUDA stream.
    """

    def __init__(self) -> None:
        self._running: deque[tuple[torch.cuda.Event, torch.cuda.Event]] = deque()

    def __enter__(self) -> None:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        self._running.append((begin, end))

    def __exit__(self, *_: object) -> None:
        self._running[-1][1].record()

    def finished_s(self) -> float:
        """Seconds of what has ended since it was last asked."""
        total = 0.0
        while self._running and self._running[0][1].query():
            begin, end = self._running.popleft()
            total += begin.elapsed_time(end) / 1e3
        return total


class Totals:
    """What a stream has done since its first batch was asked for.

    Args:
        counts: tells what was counted so far, as `Places.counts`.

    Attributes:
        seconds: by stage; of threads, but `plan` and `stall` of the consumer's.
        clips, batches, damaged: given out; samples that others stood in for.
    """

    def __init__(self, counts: Callable[[], Counter[str]] = Counter) -> None:
        self._counts, self._before = counts, counts()
        self.seconds = Stopwatch()
        self.clips = self.batches = self.damaged = 0
        self._began = time.perf_counter()
        self._first_s: float | None = None

    def add(self, seconds: Mapping[str, float], clips: int, damaged: int) -> None:
        """Count a batch that is given out."""
        self.seconds.add(seconds)
        self.batches, self.clips = self.batches + 1, self.clips + clips
        self.damaged += damaged
        if self._first_s is None:
            self._first_s = self.wall_s

    @property
    def wall_s(self) -> float:
        """Since the first batch was asked for."""
        return time.perf_counter() - self._began

    def facts(self) -> dict[str, float]:
        """As metrics: counts, rates, shares, and the seconds of each stage."""
        wall, counted = self.wall_s, self._counts() - self._before
        return {
            "batches": self.batches,
            "clips": self.clips,
            "damaged": self.damaged,
            "seconds": wall,
            "first_batch_s": self._first_s or 0.0,
            "clips_per_s": self.clips / wall,
            "read_MB_per_s": counted["read_bytes"] / 1e6 / wall,
            **{name: counted[name] for name in _CACHE},
            "stall_share": self.seconds.seconds["stall"] / wall,
            **{f"{stage}_s": self.seconds.seconds[stage] for stage in _MEANING},
        }


def stage_table(facts: Mapping[str, float]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Of the facts of a stream: names of columns, and a row for each stage."""
    wall, clips = facts["seconds"], max(1, facts["clips"])
    spent = [(stage, facts[f"{stage}_s"]) for stage in _MEANING]
    rows: list[tuple[str, ...]] = [
        (stage, f"{s:.2f}", f"{1e3 * s / clips:.2f}", f"{s / wall:.1%}", _MEANING[stage])
        for stage, s in spent
    ]
    return ("stage", "seconds", "ms a clip", "of the time", ""), rows
