"""The endless samples of one source, in their order, and what is known of the clip at a position.

Nothing here grows with the clips: the index of the shards of a few windows is held.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from flow_cache import FlowSpec, Pair, level_pairs
from shards import DamagedDataset, Order, ShardReader, UsageError
from shards.manifest import sha256_of
from shards.order import Mixture
from shards.reader import Held
from trainer.config import StreamConfig
from trainer.stream.batch import Damage
from trainer.stream.source import COLUMNS, Source, check_columns, only_size, pick, survey
from trainer.stream.where import Where
from trainer.temporal.recipe import ClipFacts

_MOST_NAMED = 900  # bytes of JSON that say what decides the order; a state stays under 2 kB


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """The clip that stands at a position.

    Attributes:
        samples: the source that it is of.
        position: in the stream.
        number: of the sample, among those of its source.
        row: of the clip in the dataset.
        facts: what a recipe may know of it.
        damaged: the clip whose place it takes, if any.
    """

    samples: "Samples"
    position: int
    number: int
    row: int
    facts: ClipFacts
    damaged: Damage | None


class Samples:
    """The endless samples of one source, in their order.

    Attributes:
        size: (height, width) of the clips.
        bad: samples known to be damaged, by number, and why.

    Raises:
        UsageError: see `survey`; clips that are too short.
    """

    def __init__(self, source: Source, config: StreamConfig, seed: int) -> None:
        self.source, self._config, self._where = source, config, Where(source.where)
        found = survey(source, config)
        check_columns(source)
        self.size = found.size
        self._check_frames(found.shortest)
        self.order = Order(shard_rows=found.samples, seed=seed, window=config.window)
        # This window, the next one, and that which threads may still be filling from.
        held = 3 * config.window
        columns = (*COLUMNS, *self._where.columns, *source.columns)
        self.reader = ShardReader(source.dataset, source.layer, columns=columns, held=held)
        self._picked = Held(self._pick, held)
        self._spec = None if source.layer is None else FlowSpec.from_json(source.layer.spec)
        self._ends = np.cumsum(found.samples)
        self._starts = np.cumsum((0, *source.dataset.shard_rows))
        self.bad: dict[int, Damage] = {}
        self._lost: dict[int, str] = {}  # shards whose index cannot be read

    def check_size(self, size: tuple[int, int]) -> None:
        """UsageError unless clips are of this (height, width)."""
        only_size(self.source.dataset, {self.size, size})

    def identity(self) -> Mapping[str, int | str]:
        """What decides the order, besides the seed."""
        facts = {"dataset": self.source.dataset.digest[:16], "where": str(self._where)}
        if self._config.windows == "all":
            facts["windows"] = f"all of {self._config.frames} frames"
        return facts

    def load(self, shard: int) -> None:
        """Read the index of a shard, if it is not held."""
        self._picked(shard)

    def find(self, position: int, own: int, avoid: Mapping[int, Damage]) -> Found:
        """The clip at a position of the stream, or the one that takes its place.

        Args:
            own: the position in this source.
            avoid: samples that are damaged, besides those that are known.

        Raises:
            DamagedDataset: all clips of an epoch are damaged.
        """
        first: Damage | None = None
        for number in self.order.candidates(own):
            damage = self.bad.get(number) or avoid.get(number) or self._missing(number)
            if damage is None:
                row, facts = self._look_up(number)
                return Found(
                    samples=self,
                    position=position,
                    number=number,
                    row=row,
                    facts=facts,
                    damaged=first,
                )
            first = first or damage
        assert first is not None, "there are samples"
        raise DamagedDataset(
            f"every clip of {self.source.dataset.url} is damaged, as {first.key}: {first.reason}"
        )

    def key(self, row: int) -> str:
        """Of a clip."""
        key: str = self.reader.value(row, "key")
        return key

    def caption(self, row: int) -> str | None:
        """Of a clip, if the dataset has captions."""
        caption: str | None = self.reader.value(row, "caption")
        return caption

    def value(self, row: int, column: str) -> Any:
        """What a column of the source tells of a clip; None where its shard lacks the column."""
        try:
            return self.reader.value(row, column)
        except KeyError:
            return None

    def _missing(self, number: int) -> Damage | None:
        """The damage of a sample whose shard has no index that can be read."""
        shard = int(np.searchsorted(self._ends, number, side="right"))
        if shard not in self._lost:
            try:
                self.load(shard)
                return None
            except (DamagedDataset, OSError) as error:
                self._lost[shard] = str(error)
        place = number - int(self._ends[shard]) + self.order.shard_rows[shard]
        name = self.source.dataset.shards[shard]
        return Damage(key=f"sample {place} of shard {name}", reason=self._lost[shard])

    def _look_up(self, number: int) -> tuple[int, ClipFacts]:
        """The row of a sample, and what a recipe may know of it."""
        shard = int(np.searchsorted(self._ends, number, side="right"))
        places, firsts = self._picked(shard)
        index = number - int(self._ends[shard]) + self.order.shard_rows[shard]
        row, first = int(self._starts[shard] + places[index]), int(firsts[index])
        stored, height, width = (
            self.reader.value(row, name) for name in ("frames", "height", "width")
        )
        self.check_size((height, width))
        self._check_frames(stored)
        return row, ClipFacts(
            frames=self._config.frames if self._config.windows == "all" else stored,
            flow_pairs=() if self._spec is None else _stored_pairs(stored, self._spec),
            first=first,
        )

    def _pick(self, shard: int) -> tuple[np.ndarray, np.ndarray]:
        return pick(self.reader.clips(shard), self._where, self._config)

    def _check_frames(self, frames: int) -> None:
        if frames < self._config.frames:
            raise UsageError(
                f"the shortest clip of {self.source.dataset.url} has {frames} frames, "
                f"stream.frames asks for {self._config.frames}: lower it, filter with "
                f"--stream.where 'frames >= {self._config.frames}', or build the dataset with "
                "more --frames"
            )


class Windows:
    """Has the index of windows of shards read, each once, in the order of one source.

    Args:
        submit: of a pool of threads.
    """

    def __init__(self, samples: Samples, submit: Callable[..., object]) -> None:
        self._samples, self._order, self._submit = samples, samples.order, submit
        self._latest: int | None = None
        self._next = 0  # where the first window begins that was not asked for

    def ask(self, position: int) -> None:
        """For the window of a position of the source, and all from the first one asked for on."""
        if self._latest is None:
            self._next = position
        self._latest = position
        self._reach(position)

    def ask_ahead(self) -> None:
        """For the window after the latest one."""
        if self._latest is not None:
            self._reach(self._order.window_at(self._latest)[1])

    def _reach(self, position: int) -> None:
        while self._next <= position:
            shards, self._next = self._order.window_at(self._next)
            for shard in shards:
                self._submit(self._samples.load, shard)


def identity(
    samples: Sequence[Samples], mixture: Mixture, config: StreamConfig
) -> dict[str, int | str]:
    """What decides the order of a stream, by name."""
    common: dict[str, int | str] = {"seed": mixture.seed, "window": config.window}
    if len(samples) == 1:
        return {**samples[0].identity(), **common}
    common["weights"] = ":".join(map(str, mixture.weights))
    named = {
        f"{name} {number}": value
        for number, one in enumerate(samples, 1)
        for name, value in one.identity().items()
    }
    if len(text := json.dumps(named | common)) > _MOST_NAMED:
        return {"sources": sha256_of(text.encode())[:32], "seed": mixture.seed}
    return named | common


@lru_cache(maxsize=64)
def _stored_pairs(frames: int, spec: FlowSpec) -> tuple[Pair, ...]:
    return level_pairs(frames, spec.levels, spec.directions)
