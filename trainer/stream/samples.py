"""The endless samples of one source, in their order, and what is known of the clip at a position.

Nothing here grows with the clips: the index of the shards of a few windows is held.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np

from flow_cache import CODING, FlowSpec, Pair, level_pairs
from shards import DamagedDataset, Exhausted, Order, RangeCache, ShardReader, UsageError
from shards.reader import Held
from trainer.config import StreamConfig
from trainer.spatial.framing import Framing, fits
from trainer.stream.batch import Damage
from trainer.stream.filter.pick import TIMES, columns_for, pick
from trainer.stream.filter.where import Where
from trainer.stream.source import Source, check_columns, draw_caption, only_size, survey
from trainer.temporal.rate import ALIGNED, FrameTimes, as_rate, frame_times
from trainer.temporal.recipe import ClipFacts


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """The clip that stands at a position.

    Attributes:
        samples: the source that it is of.
        position: in the stream.
        number: of the sample, among those of its source.
        row: of the clip in the dataset.
        stored: (height, width) of the clip.
        facts: what a recipe may know of it.
        damaged: the clip whose place it takes, if any.
    """

    samples: "Samples"
    position: int
    number: int
    row: int
    stored: tuple[int, int]
    facts: ClipFacts
    damaged: Damage | None


class Opened:
    """A source, as all of its buckets use it.

    Attributes:
        source, config: what it is, and how it is streamed.
        cache: keeps what is read of it; None where nothing does.
        where: its filter.
        found: its survey.
        reader: of its clips and flow.
        picked: of a shard by number, the samples in each bucket.

    Raises:
        UsageError: see `survey`; columns that no clip has.
    """

    def __init__(self, source: Source, config: StreamConfig) -> None:
        self.source, self.config = source, config
        self.cache = _open_cache(source, config)
        if self.cache is not None:
            source = replace(source, dataset=source.dataset.kept_in(self.cache))
        self.found, self.where = survey(source, config), Where(source.where)
        check_columns(source, config)
        # This window, the next one, and that which threads may still be filling from; buckets go
        # through the shards in one order, about as far.
        held = (2 + len(config.shapes)) * config.window
        needed = columns_for(config)
        columns = (*needed, config.captions, *self.where.columns, *source.columns)
        self.reader = ShardReader(source.dataset, source.layer, columns=columns, held=held)
        self.picked = Held(self._pick, held)

    def identity(self) -> Mapping[str, int | str]:
        """What decides the order, besides the seed."""
        facts = {"dataset": self.source.dataset.digest[:16], "where": str(self.where)}
        lengths = ", ".join(dict.fromkeys(str(bucket.frames) for bucket in self.config.shapes))
        if self.config.windows == "all":
            facts["windows"] = f"all of {lengths} frames"
        if self.config.fps:
            facts["fps"] = f"{self.config.fps:g}, for {lengths} frames"
        return facts

    def counts(self) -> Counter[str]:
        """So far: bytes read where they lie, ranges that the cache had, had not, had damaged."""
        read, cache = Counter(read_bytes=self.reader.bytes_read), self.cache
        if cache is not None:
            counted = {"hits": cache.hits, "misses": cache.misses, "damaged": cache.damaged}
            read.update({f"cache_{name}": count for name, count in counted.items()})
        return read

    def _pick(self, shard: int) -> list[tuple[np.ndarray, np.ndarray]]:
        table = self.reader.clips(shard)
        return pick(table, self.where.places(table), self.config)


class Samples:
    """The endless samples of one source in one bucket, in their order.

    Args:
        opened: the source.
        seed: of the order.
        number: of the bucket, among those of the configuration.

    Attributes:
        bucket: how large they are.
        framings: how the clips of each stored size are shown.
        fps: frames per second of the samples; None: as clips are stored.
        of_source: samples that the source has in all of its buckets.
        bad: samples known to be damaged, by number, and why.

    Raises:
        UsageError: clips that are too short, or smaller than they are shown.
    """

    def __init__(self, opened: Opened, seed: int, number: int = 0) -> None:
        config, source = opened.config, opened.source
        self.fps = config.fps
        self.source, self.reader, self._picked = source, opened.reader, opened.picked
        self._config, self._number, self.bucket = config, number, config.shapes[number]
        found, size = opened.found, self.bucket.size
        those = [one for one in found.sizes if not config.buckets or fits(one, size or one)]
        self.framings = [self._framing(stored) for stored in those]
        if found.shortest is not None:
            self._check_frames(found.shortest)
        counts = found.samples[number]
        self.of_source = sum(map(sum, found.samples))
        self.order = Order(shard_rows=counts, seed=seed, window=config.window)
        self._spec = None if source.layer is None else FlowSpec.from_json(source.layer.spec)
        self._ends = np.cumsum(counts)
        self._starts = np.cumsum((0, *source.dataset.shard_rows))
        self.bad: dict[int, Damage] = {}
        self._lost: dict[int, str] = {}  # shards whose index cannot be read

    @property
    def packs(self) -> bool:
        """Whether its flow, if it has any, is coded as `open_fields` takes it."""
        return self._spec is None or self._spec.coding == CODING

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the stored clips, of some of them where there are several."""
        return self.framings[0].stored

    def check_size(self, size: tuple[int, int]) -> None:
        """UsageError unless all clips are of this (height, width)."""
        only_size(self.source.dataset, {*(framing.stored for framing in self.framings), size})

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
                row, stored, facts = self._look_up(number)
                return Found(
                    samples=self,
                    position=position,
                    number=number,
                    row=row,
                    stored=stored,
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

    def caption(self, row: int, position: int) -> str | None:
        """Of a clip, as a position of the stream shows it; None if it has none."""
        told = self.value(row, self._config.captions)
        return draw_caption(told, self.order.seed, position, self._config.caption_dropout)

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
            except Exhausted:
                raise
            except (DamagedDataset, OSError) as error:
                self._lost[shard] = str(error)
        place = number - int(self._ends[shard]) + self.order.shard_rows[shard]
        name = self.source.dataset.shards[shard]
        return Damage(key=f"sample {place} of shard {name}", reason=self._lost[shard])

    def _look_up(self, number: int) -> tuple[int, tuple[int, int], ClipFacts]:
        """The row of a sample, its stored size, and what a recipe may know of it."""
        shard = int(np.searchsorted(self._ends, number, side="right"))
        places, firsts = self._picked(shard)[self._number]
        index = number - int(self._ends[shard]) + self.order.shard_rows[shard]
        row, first = int(self._starts[shard] + places[index]), int(firsts[index])
        stored, height, width = (
            self.reader.value(row, name) for name in ("frames", "height", "width")
        )
        if self.fps is None:
            self._check_frames(stored)
        if self.bucket.size is None:
            self.check_size((height, width))
        facts = ClipFacts(
            frames=stored - first,
            flow_pairs=() if self._spec is None else _stored_pairs(stored, self._spec),
            first=first,
            framing=self._framing((height, width)),
            times=self._times(row),
        )
        if self._config.windows == "all":
            shown = facts.windows(self.bucket.frames, ALIGNED)[0]
            facts = replace(facts, frames=int(shown[-1]) + 1 - first)
        return row, (height, width), facts

    def _times(self, row: int) -> FrameTimes | None:
        """When the frames of a clip show, where the model has a frame rate of its own."""
        if self.fps is None:
            return None
        pts, *facts = (self.reader.value(row, name) for name in TIMES)
        return frame_times(pts, Fraction(*facts[:2]), Fraction(*facts[2:]), as_rate(self.fps))

    def _framing(self, stored: tuple[int, int]) -> Framing:
        return Framing(stored=stored, bucket=self.bucket, config=self._config)

    def _check_frames(self, frames: int) -> None:
        if frames < self.bucket.frames:
            raise UsageError(
                f"the shortest clip of {self.source.dataset.url} has {frames} frames, "
                f"stream.frames asks for {self.bucket.frames}: lower it, filter with "
                f"--stream.where 'frames >= {self.bucket.frames}', or build the dataset with "
                "more --frames"
            )


def _open_cache(source: Source, config: StreamConfig) -> RangeCache | None:
    """Of what a source's shards hold."""
    if not config.cache:
        return None
    dataset, layers = source.dataset, [None] if source.layer is None else [None, source.layer]
    own = {dataset.digest_of(shard, layer) for layer in layers for shard in dataset.shards}
    return RangeCache(config.cache, int(config.cache_gb * 1e9), own)


@lru_cache(maxsize=64)
def _stored_pairs(frames: int, spec: FlowSpec) -> tuple[Pair, ...]:
    return level_pairs(frames, spec.levels, spec.directions)
