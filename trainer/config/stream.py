"""What is read."""

from dataclasses import dataclass
from typing import Literal

from trainer.config.rules import require


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamConfig:
    """What is read from the dataset, and how far ahead."""

    frames: int = 16
    """Stored frames a training clip spans; every stage sees this window at its own rate."""
    batch: int = 8
    """Clips in a global batch, over all ranks."""
    layer: str = "variational"
    """Flow layer: an estimator's name, or the start of a layer's digest."""
    window: int = 64
    """Shards whose clips are mixed with each other while shuffling."""
    where: str = ""
    """Filter over columns of the index, as `frames >= 33 and "dog" in caption`; docs/streaming.md
    lists what it may hold. Empty: all clips."""
    windows: Literal["drawn", "all"] = "drawn"
    """Of clips longer than `frames`: one window a clip and epoch, drawn anew each time, or all that
    follow each other, each a sample of its own."""
    max_damaged: int = 64
    """Samples that may turn out damaged, each stood in for by another; one more ends the run."""
    threads: int = 4
    """Threads that read and decode."""
    prefetch: int = 2
    """Batches prepared ahead of the one in training, as far as memory goes."""
    prefetch_mib: int = 2048
    """Memory of the batches prepared ahead; one is prepared in any case."""
    rgb_on: Literal["host", "device"] = "host"
    """Where stored clips become the same RGB; on a GPU the host has half of the work and bytes."""

    def __post_init__(self) -> None:
        at_least_1 = ("frames", "batch", "window", "threads", "prefetch")
        for name in (*at_least_1, "max_damaged", "prefetch_mib"):
            value, least = getattr(self, name), int(name in at_least_1)
            require(value >= least, f"stream.{name} must be at least {least}, got {value}")
