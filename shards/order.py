"""The order of the stream: a pure function of (row counts of the shards, seed, position).

Position p counts source rows since the start of training and never wraps: epoch p // n of n rows.
Each epoch permutes the shards, cuts them into windows of a few shards and permutes the rows inside
each window, so that reads stay local and memory is that of one window. Integer arithmetic only: the
order is the same on any machine, with any library version, for any number of workers and ranks.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

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

    def _pieces(self, start: int, stop: int) -> Iterator[np.ndarray]:
        while start < stop:
            epoch, offset = divmod(start, self.total)
            windows, ends = _windows(self.shard_rows, self.window, fold(self.seed, epoch, "shards"))
            number = int(np.searchsorted(ends, offset, side="right"))
            rows = _window_rows(
                self.shard_rows, windows[number], fold(self.seed, epoch, number, "rows")
            )
            begin = offset - (int(ends[number]) - len(rows))
            piece = rows[begin : begin + stop - start]
            yield piece
            start += len(piece)


@lru_cache(maxsize=4)
def _windows(
    shard_rows: tuple[int, ...], window: int, key: int
) -> tuple[list[tuple[int, ...]], np.ndarray]:
    """One epoch's windows of shards, and the position within the epoch at which each ends."""
    order = permutation(len(shard_rows), key).tolist()
    windows = [tuple(order[i : i + window]) for i in range(0, len(order), window)]
    return windows, np.cumsum([sum(shard_rows[s] for s in shards) for shards in windows])


@lru_cache(maxsize=4)
def _window_rows(shard_rows: tuple[int, ...], shards: tuple[int, ...], key: int) -> np.ndarray:
    """The global row numbers of one window, in their order."""
    first_rows = np.cumsum((0, *shard_rows))
    rows = np.concatenate([np.arange(first_rows[s], first_rows[s + 1]) for s in shards])
    return rows[permutation(len(rows), key)]


def rank_rows(rows: Int64[np.ndarray, " n"], rank: int, ranks: int) -> Int64[np.ndarray, " share"]:
    """Rank `rank`'s share r, r + R, … of a global batch, which R must divide."""
    if len(rows) % ranks:
        raise ValueError(
            f"a global batch of {len(rows)} clips cannot be split evenly over {ranks} ranks; "
            "choose a batch size that is a multiple of the number of ranks"
        )
    return rows[rank::ranks]
