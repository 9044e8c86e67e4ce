"""The order of the stream: a pure function of (row counts of the shards, seed, position).

Position p counts source rows since the start of training and never wraps: epoch p // n of n rows.
Each epoch permutes the shards, cuts them into windows of a few shards and permutes the rows inside
each window, so that reads stay local and memory is that of one window. Integer arithmetic only: the
order is the same on any machine, with any library version, for any number of workers and ranks.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Int64


def fold(*parts: int | str) -> int:
    """A 64-bit key of its arguments, the root of all randomness: fold(seed, position, purpose)."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little")


def permutation(count: int, key: int) -> Int64[np.ndarray, " count"]:
    """A keyed permutation of range(count): indices sorted by their SplitMix64 hash."""
    state = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state += np.uint64(key)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(state ^ (state >> np.uint64(31)), kind="stable")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cursor:
    """Where a training run stands: what a checkpoint stores, and all that a resume needs.

    Attributes:
        dataset: digest of the clips in the dataset.
        seed: of the run.
        position: rows consumed by all ranks together; the next batch starts there.
    """

    dataset: str
    seed: int
    position: int = 0

    def resume_in(self, dataset: str, seed: int) -> "Cursor":
        """The same cursor; ValueError if the dataset or the seed is not the one it was made for."""
        for name, ours, theirs in (("dataset", self.dataset, dataset), ("seed", self.seed, seed)):
            if ours != theirs:
                raise ValueError(
                    f"cannot resume: the checkpoint was made with {name} {ours}, this run has "
                    f"{theirs}; the order of the stream would differ. Start a new run instead"
                )
        return self


@dataclass(frozen=True, kw_only=True)
class Order:
    """The endless sequence of row numbers that a run trains on.

    Attributes:
        shard_rows: rows of each shard; global row numbers count through the shards in order.
        seed: of the run.
        window: shards shuffled together. More mixes better and reads less locally.
        total: rows of all shards.
    """

    shard_rows: tuple[int, ...]
    seed: int
    window: int = 16
    total: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", sum(self.shard_rows))
        if self.total == 0:
            raise ValueError("the stream has no rows; build a dataset with at least one clip")
        if self.window < 1:
            raise ValueError(f"window must be at least 1 shard, got {self.window}")

    def rows(self, start: int, stop: int) -> Int64[np.ndarray, " n"]:
        """Row numbers at positions [start, stop); the range may span epochs."""
        return np.concatenate([np.empty(0, np.int64), *self._pieces(start, stop)])

    def window_at(self, position: int) -> tuple[list[int], int]:
        """The shards of the window that a position is in, and the position at which it ends."""
        epoch, number = self._locate(position)
        order, ends = self._epoch(epoch)
        shards = order[number * self.window : (number + 1) * self.window]
        return shards.tolist(), epoch * self.total + int(ends[number])

    def _pieces(self, start: int, stop: int) -> Iterator[np.ndarray]:
        while start < stop:
            _, end = self.window_at(start)
            rows = self._window_rows(*self._locate(start))
            begin = start - (end - len(rows))
            piece = rows[begin : begin + stop - start]
            yield piece
            start += len(piece)

    def _locate(self, position: int) -> tuple[int, int]:
        """The epoch, and the number of the window in it."""
        epoch, offset = divmod(position, self.total)
        return epoch, int(np.searchsorted(self._epoch(epoch)[1], offset, side="right"))

    @cached_property
    def _starts(self) -> np.ndarray:
        """The first row of each shard, and their end."""
        return np.cumsum((0, *self.shard_rows))

    @cached_property
    def _epoch(self) -> Callable[[int], tuple[np.ndarray, np.ndarray]]:
        """Of an epoch: the shards in its order, and where in it each window ends."""

        def find(epoch: int) -> tuple[np.ndarray, np.ndarray]:
            order = permutation(len(self.shard_rows), fold(self.seed, epoch, "shards"))
            rows = np.diff(self._starts)[order]
            return order, np.cumsum(np.add.reduceat(rows, np.arange(0, len(order), self.window)))

        return lru_cache(maxsize=2)(find)

    @cached_property
    def _window_rows(self) -> Callable[[int, int], np.ndarray]:
        """The row numbers of a window of an epoch, in their order."""

        def find(epoch: int, number: int) -> np.ndarray:
            order, _ = self._epoch(epoch)
            shards = order[number * self.window : (number + 1) * self.window]
            spans = zip(self._starts[shards], self._starts[shards + 1], strict=True)
            rows = np.concatenate([np.arange(start, end) for start, end in spans])
            return rows[permutation(len(rows), fold(self.seed, epoch, number, "rows"))]

        return lru_cache(maxsize=4)(find)


def rank_rows(rows: Int64[np.ndarray, " n"], rank: int, ranks: int) -> Int64[np.ndarray, " share"]:
    """Rank `rank`'s share r, r + R, … of a global batch, which R must divide."""
    if len(rows) % ranks:
        raise ValueError(
            f"a global batch of {len(rows)} clips cannot be split evenly over {ranks} ranks; "
            "choose a batch size that is a multiple of the number of ranks"
        )
    return rows[rank::ranks]
