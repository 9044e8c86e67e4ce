"""Streams without media: an index in memory, and clips that are read by nobody, or are damaged."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from shards.index import Dataset
from shards.manifest import DamagedDataset
from shards.stopwatch import Stopwatch
from trainer.config import PyramidConfig, StreamConfig
from trainer.stream import engine
from trainer.stream.engine import Stream
from trainer.stream.source import Source
from trainer.temporal.plan import unshuffled
from trainer.temporal.recipe import ClipFacts, SamplePlan
from trainer.temporal.stages import Stage, stages

SIZE = (2, 2)


class Index(Dataset):
    """What a stream asks of a dataset, from memory.

    Attributes:
        damaged: rows whose clip cannot be read, and names of shards whose index cannot.
    """

    url = "memory"

    def __init__(
        self,
        shard_rows: Sequence[int],
        frames: Sequence[int] = (),
        name: str = "clip",
        sizes: Sequence[tuple[int, int]] = (),
        rates: Sequence[int] = (),
    ) -> None:
        total = sum(shard_rows)
        lengths, fps = list(frames) or [4] * total, list(rates) or [12] * total
        self.shard_rows = tuple(shard_rows)
        self.shards = [f"{number:06d}" for number in range(len(shard_rows))]
        self.manifest: Any = SimpleNamespace(config={}, layers={})
        self.damaged: set[int | str] = set()
        self.digest = f"{name}{list(shard_rows)}"
        self.table = pa.table(
            {
                "key": [f"{name}-{row}" for row in range(total)],
                "caption": [f"caption {row}" for row in range(total)],
                "frames": lengths,
                "height": [height for height, _ in sizes] or [SIZE[0]] * total,
                "width": [width for _, width in sizes] or [SIZE[1]] * total,
                "number": list(range(total)),
                "pts": [list(range(length)) for length in lengths],
                "time_base_num": [1] * total,
                "time_base_den": fps,
                "fps_num": fps,
                "fps_den": [1] * total,
            }
        )
        self.starts = np.cumsum([0, *shard_rows])

    def rows(self, shard, columns=None, layer=None) -> pa.Table:
        if shard in self.damaged:
            raise DamagedDataset(f"the index of {shard} is missing")
        number = int(shard)
        part = self.table.slice(self.starts[number], self.shard_rows[number])
        names = self.table.column_names
        return part.select([n for n in names if columns is None or n in columns])

    def each(self, columns=None, layer=None) -> Iterator[pa.Table]:
        return (self.rows(shard, columns) for shard in self.shards)

    def schemas(self) -> Iterator[pa.Schema]:
        return iter([self.table.schema])


class Straight:
    """A recipe that shows the first frames that may be shown."""

    def __init__(self, frames: int = 4) -> None:
        self.frames = frames

    def group(self, batch_number: int) -> Stage:
        return stages(PyramidConfig(enabled=False))[0]

    def sample(self, position: int, clip: ClipFacts, group: Stage) -> SamplePlan:
        shown = unshuffled(clip.windows(clip.span(self.frames), 4)[0])
        space = clip.draw_space(0, position)
        return SamplePlan(shown=shown, levels=None, supervision=None, space=space)


@dataclass(frozen=True)
class Shown:
    """A sample that a stream gave."""

    position: int
    key: str
    start: int
    stands_in: bool
    shape: tuple[int, ...] = ()


OpenStream = Callable[..., Stream]


@pytest.fixture
def open_stream(monkeypatch: pytest.MonkeyPatch) -> OpenStream:
    """`open_stream(index or sources, batch=…, seed=…, …)`: clips take no time to read."""

    def fill(request, reader) -> Stopwatch:
        if request.row in reader.dataset.damaged:
            raise DamagedDataset(f"clip-{request.row} (mp4) differs from what was written")
        return Stopwatch()

    monkeypatch.setattr(engine, "fill", fill)

    def open_(sources, *, rank: int = 0, ranks: int = 1, seed: int = 0, **config) -> Stream:
        if isinstance(sources, Index):
            sources = Source(dataset=sources, where=config.pop("where", ""))
        small = {"frames": 4, "threads": 1, "prefetch": 1, "max_damaged": 1000}
        settings = StreamConfig(**small | config)
        return Stream(
            sources, settings, Straight(settings.frames), seed=seed, rank=rank, ranks=ranks
        )

    return open_


def shown_by(stream: Stream, batches: int) -> list[Shown]:
    """The samples of the next batches."""
    found, generator = [], iter(stream)
    for _ in range(batches):
        batch = next(generator)
        bad = {damage.position for damage in batch.damaged}
        found += [
            Shown(
                position, key, int(plan.window[0]), position in bad, tuple(batch.frames.shape[1:])
            )
            for position, key, plan in zip(batch.positions, batch.keys, batch.plans, strict=True)
        ]
    generator.close()
    return found
