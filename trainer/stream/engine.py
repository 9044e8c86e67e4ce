"""The stream: batches in the dataset's order, read and decoded ahead by threads.

A batch is decided first: its stage, then each sample's plan and noise level, all by position. Its
tensors are allocated, and threads fill them, reading only the frames that the plans show and the
flow fields that FlowLoss will ask for. Batches come out in order, whatever order threads end in.
"""

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from flow_cache.spec import FlowSpec, Pair, level_pairs
from shards.index import Dataset
from shards.manifest import Layer
from shards.order import Cursor, Order, rank_rows
from shards.reader import ShardReader
from shards.stopwatch import Stopwatch
from trainer.config import TrainConfig
from trainer.stream.batch import Batch, FlowTargets
from trainer.stream.fill import FlowTask, Task, fill
from trainer.temporal.plan import Supervision, supervise
from trainer.temporal.recipe import Draw, draw_sample, draw_stage


class Loader:
    """An endless iterable of batches, from where a cursor stands.

    The stream does not depend on how many ranks or threads share it: global batch g holds the
    positions [g·B, (g + 1)·B) of the order, and rank r of R takes r, r + R, … of them.

    Args:
        dataset: opened, with clips of one size that have at least `config.stream.frames` frames.
        config: of the run.
        layer: flow layer for FlowLoss; None reads no flow.
        cursor: where to start; None starts at the beginning.
        rank, ranks: this process among those that share the stream.
        pin: allocate in pinned memory, for copies to a GPU that do not block.

    Raises:
        ValueError: clips of several sizes, clips that are too short, a cursor of another dataset
            or seed, or a batch that the ranks cannot share evenly.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: TrainConfig,
        layer: Layer | None = None,
        cursor: Cursor | None = None,
        *,
        rank: int = 0,
        ranks: int = 1,
        pin: bool = False,
    ) -> None:
        self.config = config
        self.size = clip_size(dataset)
        self.stored_frames = _stored_frames(dataset, config.stream.frames)
        self.order = Order(
            shard_rows=dataset.shard_rows, seed=config.seed, window=config.stream.window
        )
        self.cursor = (cursor or Cursor(dataset=dataset.digest, seed=config.seed)).resume_in(
            dataset.digest, config.seed
        )
        self.reader = ShardReader(dataset, layer)
        self.spec = None if layer is None else FlowSpec.from_json(layer.spec)
        self.share = partial(rank_rows, rank=rank, ranks=ranks)
        self.share(np.arange(config.stream.batch))  # refuse an uneven split before any work
        self.pin = pin

    def __iter__(self) -> Generator[Batch, None, None]:
        """Batches in order; each time from the cursor that the loader was made with."""
        # One thread's tensor operations must not take the cores from the others and from training.
        pool = ThreadPoolExecutor(
            self.config.stream.threads, "loader", torch.set_num_threads, initargs=(1,)
        )
        pending: deque[tuple[Batch, list[Future[Stopwatch]]]] = deque()
        cursor = self.cursor
        try:
            while True:
                while len(pending) <= self.config.stream.prefetch:
                    planning = Stopwatch()
                    with planning("plan"):
                        batch, tasks = self.prepare(cursor)
                    batch.seconds.update(planning.seconds)
                    pending.append((batch, [pool.submit(fill, t, self.reader) for t in tasks]))
                    cursor = batch.cursor
                batch, futures = pending.popleft()
                yield _wait(batch, futures)
        finally:
            pool.shutdown(cancel_futures=True)

    def prepare(self, cursor: Cursor) -> tuple[Batch, list[Task]]:
        """This rank's share of the batch at `cursor`, allocated, and the tasks that fill it."""
        positions = np.arange(cursor.position, cursor.position + self.config.stream.batch)
        stage = draw_stage(self.config, cursor.position // len(positions))
        rows = self.share(self.order.rows(positions[0], positions[-1] + 1)).tolist()
        draws = [
            draw_sample(self.config, position, stage, int(self.stored_frames[row]))
            for position, row in zip(self.share(positions).tolist(), rows, strict=True)
        ]
        supervisions = [self._supervision(draw, row) for draw, row in zip(draws, rows, strict=True)]
        clips = self.reader.dataset.clips
        batch = Batch(
            frames=self._empty(len(rows), len(draws[0].plan), 3, *self.size, dtype=torch.uint8),
            sigma=torch.tensor([draw.sigma for draw in draws]),
            flow=self._targets(supervisions),
            stage=stage,
            plans=tuple(draw.plan for draw in draws),
            keys=tuple(clips["key"][row].as_py() for row in rows),
            captions=tuple(clips["caption"][row].as_py() for row in rows),
            positions=tuple(draw.position for draw in draws),
            cursor=replace(cursor, position=cursor.position + len(positions)),
        )
        return batch, _tasks(batch, rows, supervisions)

    def _supervision(self, draw: Draw, row: int) -> Supervision | None:
        """The pairs that FlowLoss will compare; None for a sample that its gate keeps out."""
        loss = self.config.flow_loss
        if self.spec is None or draw.sigma >= loss.psi or len(draw.plan) < 2:
            return None
        stored = _stored_pairs(int(self.stored_frames[row]), self.spec)
        return supervise(draw.plan, stored, loss.order, loss.max_hops)

    def _targets(self, supervisions: Sequence[Supervision | None]) -> FlowTargets | None:
        """Flow targets of the supervised samples, with the fields still to be filled in."""
        wanted = {row: found for row, found in enumerate(supervisions) if found is not None}
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


def clip_size(dataset: Dataset) -> tuple[int, int]:
    """(height, width) of the dataset's clips; ValueError if they differ."""
    heights, widths = (dataset.clips[name].unique().to_pylist() for name in ("height", "width"))
    if len(heights) != 1 or len(widths) != 1:
        raise ValueError(
            f"{dataset.url} holds clips of heights {heights} and widths {widths}; "
            "a batch needs one size: build the dataset with --size"
        )
    return heights[0], widths[0]


def _stored_frames(dataset: Dataset, needed: int) -> np.ndarray:
    """The length of each clip, int [rows]; ValueError if one is shorter than needed."""
    frames = dataset.clips["frames"].to_numpy()
    if frames.min() < needed:
        raise ValueError(
            f"the shortest clip of {dataset.url} has {frames.min()} frames, stream.frames asks for "
            f"{needed}: lower it, or build the dataset with more --frames"
        )
    return frames


@lru_cache(maxsize=64)
def _stored_pairs(frames: int, spec: FlowSpec) -> tuple[Pair, ...]:
    return level_pairs(frames, spec.levels, spec.directions)


def _tasks(
    batch: Batch, rows: Sequence[int], supervisions: Sequence[Supervision | None]
) -> list[Task]:
    """One task a sample, with views of the batch's tensors to write to."""
    targets = [] if batch.flow is None else zip(batch.flow.flow, batch.flow.visible, strict=True)
    places = iter(targets)
    tasks = []
    for row, plan, frames, supervision in zip(
        rows, batch.plans, batch.frames, supervisions, strict=True
    ):
        flow = None
        if supervision is not None:
            field, visible = next(places)
            flow = FlowTask(supervision=supervision, flow=field, visible=visible)
        tasks.append(Task(row=row, src_index=plan.src_index, frames=frames, flow=flow))
    return tasks


def _wait(batch: Batch, futures: Sequence[Future[Stopwatch]]) -> Batch:
    """The batch, when its threads are done; their times and the wait go into `batch.seconds`."""
    watch = Stopwatch()
    with watch("stall"):
        for future in futures:
            watch.add(future.result().seconds)
    batch.seconds.update(watch.seconds)
    return batch
