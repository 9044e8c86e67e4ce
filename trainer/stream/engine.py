"""The stream: batches in the dataset's order, read and decoded ahead by threads.

A batch is decided first, by a recipe: its stage, then each sample's plan, all by position. Its
tensors are allocated, and threads fill them, reading only the frames that the plans show and the
flow fields that they want. Batches come out in order, whatever order threads end in.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np
import pyarrow.compute as pc
import torch
from jaxtyping import Float32
from torch import Tensor

from flow_cache import FlowSpec, Pair, level_pairs
from shards import Cursor, Dataset, Layer, Order, ShardReader, Stopwatch, UsageError, rank_rows
from trainer.config import StreamConfig
from trainer.stream.batch import Batch, FlowTargets
from trainer.stream.fill import FlowRequest, SampleRequest, fill
from trainer.temporal.recipe import ClipFacts, Recipe, SamplePlan

_COLUMNS = ("caption", "frames", "height", "width")


class Loader:
    """An endless iterable of batches, from where a cursor stands.

    The stream does not depend on how many ranks or threads share it: global batch g holds the
    positions [g·B, (g + 1)·B) of the order, and rank r of R takes r, r + R, … of them.

    Args:
        dataset: opened, with clips of one size that have at least `config.frames` frames.
        config: what is read, and how far ahead.
        recipe: how each sample is shown.
        layer: flow layer that the recipe may ask for; None reads no flow.
        cursor: where to start; None starts at the beginning.
        seed: of the order of clips.
        rank, ranks: this process among those that share the stream.
        pin: allocate in pinned memory, for copies to a GPU that do not block.

    Raises:
        UsageError: clips of several sizes, or clips that are too short.
        ValueError: a cursor of another dataset or seed, or a batch that the ranks cannot share
            evenly.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: StreamConfig,
        recipe: Recipe,
        layer: Layer | None = None,
        cursor: Cursor | None = None,
        *,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
        pin: bool = False,
    ) -> None:
        self.config, self.recipe = config, recipe
        self.size = clip_size(dataset)
        _check_frames(dataset, shortest_clip(dataset), config.frames)
        self.order = Order(shard_rows=dataset.shard_rows, seed=seed, window=config.window)
        self.cursor = (cursor or Cursor(dataset=dataset.digest, seed=seed)).resume_in(
            dataset.digest, seed
        )
        # This window, the next one, and that which threads may still be filling from.
        self.reader = ShardReader(dataset, layer, columns=_COLUMNS, held=3 * config.window)
        self.spec = None if layer is None else FlowSpec.from_json(layer.spec)
        self.share = partial(rank_rows, rank=rank, ranks=ranks)
        self.share(np.arange(config.batch))  # refuse an uneven split before any work
        self.pin = pin

    def __iter__(self) -> Generator[Batch, None, None]:
        """Batches in order; each time from the cursor that the loader was made with."""
        # One thread's tensor operations must not take the cores from the others and from training.
        pool = ThreadPoolExecutor(
            self.config.threads, "loader", torch.set_num_threads, initargs=(1,)
        )
        pending: deque[tuple[Batch, list[Future[Stopwatch]]]] = deque()
        cursor = self.cursor
        windows = _Windows(
            self.order, cursor.position, lambda shard: pool.submit(self.reader.load, shard)
        )
        try:
            while True:
                while len(pending) <= self.config.prefetch:
                    planning = Stopwatch()
                    with planning("plan"):
                        windows.ask(cursor.position + self.config.batch - 1)
                        batch, requests = self.prepare(cursor)
                    batch.seconds.update(planning.seconds)
                    pending.append((batch, [pool.submit(fill, r, self.reader) for r in requests]))
                    cursor = batch.cursor
                    windows.ask(self.order.window_at(cursor.position)[1])  # the one after it
                batch, futures = pending.popleft()
                yield _wait(batch, futures)
        finally:
            pool.shutdown(cancel_futures=True)

    def prepare(self, cursor: Cursor) -> tuple[Batch, list[SampleRequest]]:
        """This rank's share of the batch at `cursor`, allocated, and the requests that fill it."""
        positions = np.arange(cursor.position, cursor.position + self.config.batch)
        stage = self.recipe.group(cursor.position // len(positions))
        rows = self.share(self.order.rows(positions[0], positions[-1] + 1)).tolist()
        ours = tuple(self.share(positions).tolist())
        samples = [
            self.recipe.sample(position, self._facts(row), stage)
            for position, row in zip(ours, rows, strict=True)
        ]
        value = self.reader.value
        batch = Batch(
            frames=self._empty(len(rows), len(samples[0].shown), 3, *self.size, dtype=torch.uint8),
            levels=_levels(samples),
            flow=self._targets(samples),
            stage=stage,
            plans=tuple(sample.shown for sample in samples),
            keys=tuple(value(row, "key") for row in rows),
            captions=tuple(value(row, "caption") for row in rows),
            positions=ours,
            cursor=replace(cursor, position=cursor.position + len(positions)),
        )
        return batch, _requests(batch, rows, samples)

    def _facts(self, row: int) -> ClipFacts:
        frames = self.reader.value(row, "frames")
        height, width = (self.reader.value(row, side) for side in ("height", "width"))
        _check_size(self.reader.dataset, {self.size, (height, width)})
        _check_frames(self.reader.dataset, frames, self.config.frames)
        return ClipFacts(
            frames=frames, flow_pairs=() if self.spec is None else _stored_pairs(frames, self.spec)
        )

    def _targets(self, samples: Sequence[SamplePlan]) -> FlowTargets | None:
        """Flow targets of the samples that want some, with the fields still to be filled in."""
        wanted = {row: s.supervision for row, s in enumerate(samples) if s.supervision is not None}
        if not wanted:
            return None
        slots = torch.from_numpy(np.stack([found.slots for found in wanted.values()]))
        shape = slots.shape[:2]
        return FlowTargets(
            rows=torch.tensor(list(wanted)),
            slots=slots,
            hops=torch.tensor([list(map(len, found.chains)) for found in wanted.values()]),
            flow=self._empty(*shape, 2, *self.size, dtype=torch.float32),
            visible=self._empty(*shape, *self.size, dtype=torch.bool),
        )

    def _empty(self, *shape: int, dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, pin_memory=self.pin)


class _Windows:
    """Has the index of windows of shards read, each once, in the order of the stream.

    Args:
        start: position whose window is the first.
        load: starts to read the index of a shard.
    """

    def __init__(self, order: Order, start: int, load: Callable[[int], object]) -> None:
        self._order, self._load = order, load
        self._next = start  # where the first window begins that was not asked for

    def ask(self, position: int) -> None:
        """For all windows up to that of a position."""
        while self._next <= position:
            shards, self._next = self._order.window_at(self._next)
            for shard in shards:
                self._load(shard)


def clip_size(dataset: Dataset) -> tuple[int, int]:
    """(height, width) of the dataset's clips; UsageError if they differ.

    As the build was told; where that is not known, as in some merged datasets, all rows are read.
    """
    if size := dataset.manifest.config.get("size"):
        return size[0], size[1]
    sizes: set[tuple[int, int]] = set()
    for table in dataset.each(["height", "width"]):
        sizes |= {*zip(*(table[side].to_pylist() for side in ("height", "width")), strict=True)}
    return _check_size(dataset, sizes)


def _check_size(dataset: Dataset, sizes: set[tuple[int, int]]) -> tuple[int, int]:
    """The only size."""
    if len(sizes) != 1:
        heights, widths = (sorted({*sides}) for sides in zip(*sizes, strict=True))
        raise UsageError(
            f"{dataset.url} holds clips of heights {heights} and widths {widths}; "
            "a batch needs one size: build the dataset with --size"
        )
    return next(iter(sizes))


def shortest_clip(dataset: Dataset) -> int:
    """How many frames each clip has at least, as the build was told, or else as the rows say."""
    frames: int = dataset.manifest.config.get("frames") or min(
        pc.min(table["frames"]).as_py() for table in dataset.each(["frames"])
    )
    return frames


def _check_frames(dataset: Dataset, frames: int, needed: int) -> None:
    """UsageError if a clip is shorter than needed."""
    if frames < needed:
        raise UsageError(
            f"the shortest clip of {dataset.url} has {frames} frames, stream.frames asks for "
            f"{needed}: lower it, or build the dataset with more --frames"
        )


@lru_cache(maxsize=64)
def _stored_pairs(frames: int, spec: FlowSpec) -> tuple[Pair, ...]:
    return level_pairs(frames, spec.levels, spec.directions)


def _levels(samples: Sequence[SamplePlan]) -> Float32[Tensor, "b t"] | None:
    """The samples' noise levels; None where the recipe draws none."""
    drawn = [sample.levels for sample in samples if sample.levels is not None]
    if len(drawn) not in (0, len(samples)):
        raise ValueError(f"a recipe draws noise levels for all samples or none, not {len(drawn)}")
    return torch.from_numpy(np.stack(drawn)) if drawn else None


def _requests(
    batch: Batch, rows: Sequence[int], samples: Sequence[SamplePlan]
) -> list[SampleRequest]:
    """One request for each sample, with views of the batch's tensors to write to."""
    targets = [] if batch.flow is None else zip(batch.flow.flow, batch.flow.visible, strict=True)
    places = iter(targets)
    requests = []
    for row, sample, frames in zip(rows, samples, batch.frames, strict=True):
        flow = None
        if sample.supervision is not None:
            field, visible = next(places)
            flow = FlowRequest(supervision=sample.supervision, flow=field, visible=visible)
        requests.append(
            SampleRequest(row=row, src_index=sample.shown.src_index, frames=frames, flow=flow)
        )
    return requests


def _wait(batch: Batch, futures: Sequence[Future[Stopwatch]]) -> Batch:
    """The batch, when its threads are done; their times and the wait go into `batch.seconds`."""
    watch = Stopwatch()
    with watch("stall"):
        for future in futures:
            watch.add(future.result().seconds)
    batch.seconds.update(watch.seconds)
    return batch
