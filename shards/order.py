"""The order of the stream: pure functions of (row counts of the shards, seed, position).

Position p counts samples since the start of training and never wraps: epoch p // n of n rows.
Each epoch permutes the shards, cuts them into windows of a few shards and permutes the rows inside
each window, so that reads stay local and memory is that of one window. Integer arithmetic only: the
order is the same on any machine, with any library version, for any number of workers and ranks.

    Order     position → row, for one dataset         Mixture   position → (dataset, its position)
    rank_rows a rank's share of a global batch         Cursor    a position, and what it belongs to
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import chain
from typing import Any

import numpy as np
from jaxtyping import Int64

from shards.storage.failures import UsageError

_LONGEST_ROUND = 10_000  # samples in which the weights of a mixture come out exactly
_SKIPS_KEPT = 64  # so that a state stays under 2 kB
_VERSION = 1  # of a cursor's JSON


def fold(*parts: int | str) -> int:
    """A 64-bit key of its arguments, the root of all randomness: fold(seed, position, purpose)."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "little")


def chance(share: float, *parts: int | str) -> bool:
    """Whether the key of these arguments is in the lowest `share` of all: 0 never, 1 always."""
    return fold(*parts) < share * 2**64


def permutation(count: int, key: int) -> Int64[np.ndarray, " count"]:
    """A keyed permutation of range(count): indices sorted by their SplitMix64 hash."""
    state = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state += np.uint64(key)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(state ^ (state >> np.uint64(31)), kind="stable")


@dataclass(frozen=True, kw_only=True, slots=True)
class Cursor:
    """Where a stream stands: what a checkpoint stores, and all that a resume needs.

    Attributes:
        order: what decides the order, by name: digest of the dataset, filter, seed, …
        position: samples consumed by all ranks together; the next batch starts there.
        skipped: the latest positions whose clip was damaged, as met by this rank. A record: what
            stands at a position follows from the order and the damage alone.
        skips: how many clips were found damaged so far.
    """

    order: Mapping[str, int | str]
    position: int = 0
    skipped: tuple[int, ...] = ()
    skips: int = 0

    def skip(self, positions: Sequence[int]) -> "Cursor":
        """The same with positions where a clip was found damaged that was not known."""
        skipped = (*self.skipped, *positions)[-_SKIPS_KEPT:]
        return replace(self, skipped=skipped, skips=self.skips + len(positions))

    def resume_in(self, order: Mapping[str, int | str]) -> "Cursor":
        """The same cursor; UsageError, which names what changed, if it is of another order."""
        names = [n for n in {**self.order, **order} if self.order.get(n) != order.get(n)]
        if names:
            changes = "; ".join(
                f"{n} was {self.order.get(n, 'unset')}, this run has {order.get(n, 'unset')}"
                for n in names
            )
            raise UsageError(
                f"cannot resume: {changes}. The order of the stream would differ: go back to what "
                "was, or start anew without the state"
            )
        return self

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, under 2 kB."""
        return {
            "version": _VERSION,
            **asdict(self),
            "order": dict(self.order),
            "skipped": [*self.skipped],
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> "Cursor":
        """The cursor that `to_json` gave; UsageError for anything else."""
        try:
            if state["version"] != _VERSION:
                raise UsageError(
                    f"the state is of version {state['version']}, this one reads {_VERSION}; use "
                    "the fluxshard that wrote it"
                )
            cursor = cls(
                order=dict(state["order"]),
                position=int(state["position"]),
                skipped=tuple(map(int, state["skipped"])),
                skips=int(state["skips"]),
            )
        except UsageError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"not the state of a stream: {error!r} is missing or odd") from error
        if cursor.position < 0:
            raise UsageError(
                f"not the state of a stream: position {cursor.position} is below 0, where it begins"
            )
        return cursor


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

    def candidates(self, position: int) -> Iterator[int]:
        """The row at a position, then, should it be damaged, those to take in its place.

        They are the rows that follow it in its window, from the window's end those before it, and
        then those of the windows that follow, to the end of the next epoch: any rank finds the same
        one, without asking another.
        """
        _, end = self.window_at(position)
        rows = self._window_rows(*self._locate(position))
        place = position - end + len(rows)
        beyond = range(end, (position // self.total + 2) * self.total)
        later = (int(self.rows(later, later + 1)[0]) for later in beyond)
        return chain(map(int, rows[place:]), map(int, rows[:place]), later)

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


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Several endless streams as one, by weight: which of them each position is of.

    A round takes `weights[i]` samples of stream i, spread evenly over it; each round begins at
    another place of itself, so that no rank meets one stream only. After any whole number of
    rounds the counts are exact, and in between off by less than two samples.

    Attributes:
        weights: whole numbers from 1 up, without a common divisor (`whole_weights`).
        seed: of the run.
    """

    weights: tuple[int, ...]
    seed: int

    def at(self, position: int) -> tuple[int, int]:
        """The stream that a position is of, and the position in that stream."""
        number, place = divmod(position, sum(self.weights))
        streams, before = self._twice
        begin = fold(self.seed, number, "mixture") % sum(self.weights)
        stream = int(streams[begin + place])
        passed = before[begin + place, stream] - before[begin, stream]
        return stream, number * self.weights[stream] + int(passed)

    @cached_property
    def _twice(self) -> tuple[np.ndarray, np.ndarray]:
        """Two rounds on end: the stream of each place, and how many of each lie before it."""
        weights, total = np.array(self.weights), sum(self.weights)
        owed, streams = np.zeros(len(weights), np.int64), []
        for _ in range(total):  # smooth weighted round-robin
            owed += weights
            streams.append(int(owed.argmax()))
            owed[streams[-1]] -= total
        taken = np.eye(len(weights), dtype=np.int64)[2 * streams]
        return np.array(2 * streams), np.cumsum([np.zeros_like(weights), *taken], axis=0)


def whole_weights(weights: Sequence[float]) -> tuple[int, ...]:
    """The smallest whole numbers in the same ratio; UsageError if a round of them is too long."""
    exact = [Fraction(str(weight)) for weight in weights]
    if any(weight <= 0 for weight in exact):
        raise UsageError(f"weights must be above 0, got {list(weights)}")
    common = math.lcm(*(weight.denominator for weight in exact))
    whole = [int(weight * common) for weight in exact]
    whole = [weight // math.gcd(*whole) for weight in whole]
    if sum(whole) > _LONGEST_ROUND:
        raise UsageError(
            f"weights {list(weights)} come out exactly in {sum(whole)} samples only; at most "
            f"{_LONGEST_ROUND} are allowed: round them"
        )
    return tuple(whole)


def rank_rows(rows: Int64[np.ndarray, " n"], rank: int, ranks: int) -> Int64[np.ndarray, " share"]:
    """Rank `rank`'s share r, r + R, … of a global batch, which R must divide.

    Raises:
        UsageError: it does not, or there is no such rank.
    """
    if not 0 <= rank < ranks:
        raise UsageError(f"rank {rank} of a world of {ranks}: ranks count from 0 to {ranks - 1}")
    if len(rows) % ranks:
        raise UsageError(
            f"a global batch of {len(rows)} clips cannot be split evenly over {ranks} ranks; "
            "choose a batch size that is a multiple of the number of ranks"
        )
    return rows[rank::ranks]
