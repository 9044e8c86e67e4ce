"""What is read."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from trainer.config.bucket import Bucket, parse_bucket, parse_size
from trainer.config.rules import require


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamConfig:
    """What is read from the dataset, and how far ahead."""

    frames: int = 16
    """Frames a training clip spans; every stage sees this window at its own rate."""
    fps: float | None = None
    """Frames a second of that window, by time stamps, whatever rate clips have; those that are
    slower are left out. Unset: every stored frame."""
    size: str = ""
    """WIDTHxHEIGHT that frames are shown at; unset: as stored. Pictures are cut to its shape and
    made smaller, never larger."""
    resize: bool = True
    """Off: a box of just this size is cut out of the stored pixels, for which stored flow holds as
    it is."""
    buckets: tuple[str, ...] = ()
    """WIDTHxHEIGHTxFRAMES or WIDTHxHEIGHT@FRAMES, instead of `size` and `frames`: each batch is of
    one of them."""
    fill: Literal["best", "all"] = "best"
    """A clip is in the bucket of which it fills most, or a sample in all that it fills."""
    crop: Literal["center", "random"] = "center"
    """Where pictures are cut; random: by position."""
    flip: float = 0.0
    """Share of the samples that are mirrored left to right, by position."""
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
    captions: str = "caption"
    """Column of the index that captions come from: a text, a list of texts, or a JSON list of
    texts, of which each sample shows one."""
    caption_dropout: float = 0.0
    """Share of the samples whose caption is left empty."""
    max_damaged: int = 64
    """Samples that may turn out damaged, each stood in for by another; one more ends the run."""
    threads: int = 4
    """Threads that read and decode."""
    prefetch: int = 2
    """Batches prepared ahead of the one in training, as far as memory goes."""
    prefetch_mib: int = 2048
    """Memory of the batches prepared ahead; one is prepared in any case."""
    cache: str = ""
    """Local folder that keeps what is read of remote datasets, for later epochs and runs; empty:
    nothing is kept. Local datasets are read where they lie."""
    cache_gb: float = 64.0
    """Room on disk, in 10^9 bytes, of all that is in the cache, of all runs that share it."""
    process: Literal["training", "helper"] = "training"
    """Where that is done: in the process that trains, or in one beside it."""
    rgb_on: Literal["host", "device"] = "host"
    """Where stored clips become the same RGB; on a GPU the host has half of the work and bytes."""
    flow_on: Literal["host", "device"] = "host"
    """Where stored fields become the same flow; on a GPU the host has a quarter of the work, and
    a tenth of the bytes travel."""

    def __post_init__(self) -> None:
        at_least_1 = ("frames", "batch", "window", "threads", "prefetch")
        for name in (*at_least_1, "max_damaged", "prefetch_mib"):
            value, least = getattr(self, name), int(name in at_least_1)
            require(value >= least, f"stream.{name} must be at least {least}, got {value}")
        require(
            self.fps is None or 0.01 <= self.fps <= 1000,
            f"stream.fps must be in [0.01, 1000] frames a second, got {self.fps}; to take every "
            "stored frame, leave it unset",
        )
        require(
            self.process == "training" or "device" not in (self.rgb_on, self.flow_on),
            "stream.process helper gives decoded frames and flow: leave stream.rgb_on and "
            "stream.flow_on at host",
        )
        require(self.cache_gb > 0, f"stream.cache_gb must be more than 0, got {self.cache_gb}")
        for name in ("flip", "caption_dropout"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"stream.{name} must be in [0, 1], got {value}")
        require(
            not (self.size and self.buckets),
            f"stream.size {self.size} says nothing beside stream.buckets, which have sizes of "
            "their own: leave it out",
        )
        require(
            len({*self.shapes}) == len(self.shapes),
            f"stream.buckets names one twice: {', '.join(map(str, self.shapes))}",
        )

    @property
    def shapes(self) -> tuple[Bucket, ...]:
        """How large samples are; those of a batch are alike."""
        return _shapes(self.buckets, self.size, self.frames)


@lru_cache(maxsize=64)
def _shapes(buckets: tuple[str, ...], size: str, frames: int) -> tuple[Bucket, ...]:
    if buckets:
        return tuple(map(parse_bucket, buckets))
    return (Bucket(frames, parse_size(size, "stream.size") if size else None),)
