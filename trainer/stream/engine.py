"""The stream: batches in the dataset's order, read and decoded ahead by threads.

A batch is decided first, by a recipe: its stage, then each sample's plan, all by position. Its
tensors are allocated, and threads fill them, reading only the frames that the plans show and the
flow fields that they want. Batches come out in order, whatever order threads end in.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset

from shards import Cursor, DamagedDataset, Dataset, Stopwatch, rank_rows
from trainer.config import StreamConfig
from trainer.stream.assemble import Part, assemble, gather
from trainer.stream.batch import Batch, Damage
from trainer.stream.device import Delivery
from trainer.stream.fill import fill
from trainer.stream.helper import from_helper, is_in_helper
from trainer.stream.places import Places, Windows
from trainer.stream.samples import Found, Samples
from trainer.stream.source import Source
from trainer.stream.timing import Totals
from trainer.temporal.recipe import Recipe

Avoid = Mapping[Samples, Mapping[int, Damage]]


class Stream(IterableDataset[Batch]):
    """An endless iterable of batches, from where its cursor stands; `stream[p]` is one sample.

    The stream does not depend on how many ranks or threads share it: global batch g holds the
    positions [g·B, (g + 1)·B) of the order, and rank r of R takes r, r + R, … of them. A clip that
    is damaged is stood in for by another of its window, which every rank finds alike. It goes as it
    is into a loop, or into `DataLoader(stream, batch_size=None)`.

    Args:
        sources: a dataset, or what to take of one or of several, with clips of one size that have
            at least `config.frames` frames.
        config: what is read, and how far ahead. Sources say for themselves what `config.where`
            says of a bare dataset.
        recipe: how each sample is shown.
        cursor: where to start; None starts at the beginning.
        seed: of the order of clips.
        rank, ranks: this process among those that share the stream.
        device: where batches are given out. In a DataLoader's worker they stay on the CPU.

    Attributes:
        cursor: where it stands after the last batch that was given out.
        places: the sample at each position, of which bucket and source.
        size: (height, width) of the stored clips, of some of them where there are several.
        framings: how the clips of each stored size and bucket are shown.
        totals: where the time went since the first batch was asked for.

    Raises:
        UsageError: what the sources cannot serve, or a cursor of another order.
        ValueError: a batch that the ranks cannot share evenly.
        DamagedDataset: by reading: more than `config.max_damaged` samples are damaged.
    """

    def __init__(
        self,
        sources: Dataset | Source | Sequence[Source],
        config: StreamConfig,
        recipe: Recipe,
        cursor: Cursor | None = None,
        *,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
        device: torch.device | None = None,
    ) -> None:
        if isinstance(sources, Dataset):
            sources = Source(dataset=sources, where=config.where)
        parts = [sources] if isinstance(sources, Source) else list(sources)
        self.config, self.recipe = config, recipe
        self.share = partial(rank_rows, rank=rank, ranks=ranks)
        self.share(np.arange(config.batch))  # refuse an uneven split before any work
        self.places = Places(parts, config, seed)
        self.framings = [framing for one in self.places.samples for framing in one.framings]
        self.size = self.framings[0].stored
        self.order = self.places.order()
        self.cursor = (cursor or Cursor(order=self.order)).resume_in(self.order)
        self.totals = Totals()
        planes, packed = (on == "device" for on in (config.rgb_on, config.flow_on))
        self._deliver = Delivery(device, self.size, planes=planes, packed=packed)

    def state_dict(self) -> dict[str, Any]:
        """Where it stands after the last batch given out: plain JSON, under 2 kB."""
        return self.cursor.to_json()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state, of any number of ranks; UsageError if it is of another order."""
        self.cursor = Cursor.from_json(state).resume_in(self.order)

    def __getitem__(self, position: int) -> Batch:
        """The sample at a position of the order, as a batch of one; read in this thread."""
        if position < 0:
            raise IndexError(f"position {position}: they count from 0 and never end")
        avoid: dict[Samples, dict[int, Damage]] = defaultdict(dict)
        while True:
            batch, parts = self._assemble([position], position, avoid)
            if not gather(parts, [partial(_fill, part) for part in parts], batch.seconds, avoid):
                return self._deliver(batch)
            self._allow(avoid)

    def __iter__(self) -> Generator[Batch, None, None]:
        """Batches in order, from the cursor on."""
        if is_in_helper():
            self._deliver = Delivery(None, self.size)
        elif self.config.process == "helper":
            return self._taken_from_helper()
        return self._batches()

    def _taken_from_helper(self) -> Generator[Batch, None, None]:
        counts: Counter[str] = Counter()
        self.totals = Totals(lambda: counts)
        with closing(from_helper(self, self.places.counts)) as coming:
            while True:
                watch = Stopwatch()
                with watch("stall"):
                    batch, counts = next(coming)
                with watch("transfer"):
                    batch = self._deliver(batch)
                batch.seconds.update(watch.seconds)
                self.cursor = batch.cursor
                self.totals.add(batch.seconds, len(batch), len(batch.damaged))
                yield batch

    def _batches(self) -> Generator[Batch, None, None]:
        """The same, read and decoded in this process."""
        # One thread's tensor operations must not take the cores from the others and from training.
        threads = self.config.threads
        pool = ThreadPoolExecutor(threads, "stream", torch.set_num_threads, initargs=(1,))
        self.totals = Totals(self.places.counts)
        cursor, ahead = self.cursor, self.cursor.position
        counted = {self._own_sample(position) for position in cursor.skipped}
        windows = {samples: Windows(samples, pool.submit) for samples in self.places.samples}
        coming: deque[_Coming] = deque()
        try:
            while True:
                while self._has_room(coming):
                    coming.append(self._start(pool, ahead, windows))
                    ahead += self.config.batch
                batch = self._finish(pool, coming.popleft())
                self.cursor = cursor = self._count(batch, cursor, counted)
                self.totals.add(batch.seconds, len(batch), len(batch.damaged))
                yield replace(batch, cursor=cursor)
        finally:
            self._end(pool)

    def _end(self, pool: ThreadPoolExecutor) -> None:
        """Wait for the threads, which try nothing again from now on."""
        for reader in self.places.readers:
            reader.stop.set()
        pool.shutdown(cancel_futures=True)
        for reader in self.places.readers:
            reader.stop.clear()

    def epoch(self, position: int) -> int:
        """The epoch, of its source and bucket, that a position is in."""
        samples, own = self.places.at(position)
        return own // samples.order.total

    def prepare(self, position: int) -> tuple[Batch, list[Part]]:
        """This rank's share of the batch that begins at a position, and what fills it."""
        return self._assemble(self._share(position), position, {})

    def _share(self, position: int) -> list[int]:
        ours: list[int] = self.share(np.arange(position, position + self.config.batch)).tolist()
        return ours

    def _has_room(self, coming: "Sequence[_Coming]") -> bool:
        """Whether to prepare one more batch ahead of the next."""
        if not coming:
            return True
        held = sum(one.batch.nbytes for one in coming) + coming[-1].batch.nbytes
        return len(coming) <= self.config.prefetch and held <= self.config.prefetch_mib << 20

    def _start(
        self, pool: ThreadPoolExecutor, position: int, windows: Mapping[Samples, Windows]
    ) -> "_Coming":
        """Decide the batch at a position, and have threads fill it."""
        watch = Stopwatch()
        with watch("plan"):
            for place in self._share(position):
                samples, own = self.places.at(place)
                windows[samples].ask(own)
            batch, parts = self.prepare(position)
        batch.seconds.update(watch.seconds)
        futures = [pool.submit(_fill, part) for part in parts]
        for window in windows.values():
            window.ask_ahead()
        return _Coming(batch=batch, parts=parts, futures=futures)

    def _finish(self, pool: ThreadPoolExecutor, coming: "_Coming") -> Batch:
        """The batch, when its threads are done; their times and the wait go into its `seconds`."""
        watch, avoid = Stopwatch(), defaultdict[Samples, dict[int, Damage]](dict)
        watch.add(coming.batch.seconds)
        with watch("stall"):
            waits = [future.result for future in coming.futures]
            batch, parts = coming.batch, coming.parts
            while gather(parts, waits, watch.seconds, avoid):
                self._allow(avoid)
                begin = batch.cursor.position - self.config.batch
                batch, parts = self._assemble(batch.positions, begin, avoid)
                waits = [pool.submit(_fill, part).result for part in parts]
        with watch("transfer"):
            batch = self._deliver(batch)
        batch.seconds.update(watch.seconds)
        return batch

    def _assemble(
        self, positions: Sequence[int], begin: int, avoid: Avoid
    ) -> tuple[Batch, list[Part]]:
        """Some samples of the global batch that begins at a position."""
        found = [self._find(position, avoid) for position in positions]
        stage = self.recipe.group(begin // self.config.batch)
        cursor = Cursor(order=self.order, position=begin + self.config.batch)
        to = self._deliver
        forms = {"planes": to.planes, "packed": to.packed}
        return assemble(found, self.recipe, stage, cursor, to.empty, **forms)

    def _find(self, position: int, avoid: Avoid) -> Found:
        samples, own = self.places.at(position)
        return samples.find(position, own, avoid.get(samples, {}))

    def _own_sample(self, position: int) -> tuple[Samples, int]:
        """The sample that a position has, damaged or not, and its number."""
        samples, own = self.places.at(position)
        return samples, next(samples.order.candidates(own))

    def _count(self, batch: Batch, cursor: Cursor, counted: set[tuple[Samples, int]]) -> Cursor:
        """The cursor after a batch, with the damaged samples that are new in it."""
        news = []
        for damage in batch.damaged:
            sample = self._own_sample(damage.position)
            if sample not in counted:
                counted.add(sample)
                news.append(damage.position)
        cursor = replace(cursor.skip(news), position=batch.cursor.position)
        if cursor.skips > self.config.max_damaged and news:
            raise self._too_many(cursor.skips, batch.damaged[-1])
        return cursor

    def _allow(self, met: Avoid) -> None:
        """DamagedDataset if so many samples in one batch are damaged that the run must end."""
        damaged = [damage for found in met.values() for damage in found.values()]
        if len(damaged) > self.config.max_damaged:
            raise self._too_many(len(damaged), damaged[-1])

    def _too_many(self, damaged: int, last: Damage) -> DamagedDataset:
        return DamagedDataset(
            f"{damaged} samples are damaged, more than stream.max_damaged = "
            f"{self.config.max_damaged} allows; the last: {last.key}: {last.reason}"
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Coming:
    """A batch that threads are filling."""

    batch: Batch
    parts: Sequence[Part]
    futures: Sequence[Future[Stopwatch]]


def _fill(part: Part) -> Stopwatch:
    """Read and decode one sample; returns what took how long."""
    return fill(part.request, part.found.samples.reader)
