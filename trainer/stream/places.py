"""Which sample stands at each position of a stream: of which bucket, and of which source.

A global batch is of one bucket. Which one follows from its number, by arithmetic; the batches of a
bucket have positions of their own, on which its sources are mixed, each in its own order:

    position → batch, place → bucket, batch of the bucket → source, position in it → sample
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from shards import Mixture, UsageError, fold, whole_weights
from shards.manifest import sha256_of
from trainer.config import StreamConfig
from trainer.stream.samples import Opened, Samples
from trainer.stream.source import Source

_MOST_NAMED = 900  # bytes of JSON that say what decides the order; a state stays under 2 kB
_MOST_BUCKETS = 300  # characters of them
_ROUND = 1000  # samples in which the sources of a bucket are mixed as their shares say


@dataclass(frozen=True, slots=True)
class Interleave:
    """Several endless sequences as one, each by its share, as evenly as goes.

    After sum(weights) places, each had exactly its weight of them. Whole numbers alone, so that
    any place is found at once, however large the weights.

    Attributes:
        weights: whole numbers from 1 up.
    """

    weights: tuple[int, ...]

    def at(self, place: int) -> tuple[int, int]:
        """The sequence that a place is of, and the place in that sequence."""
        left = sum(self.weights)
        for sequence, weight in enumerate(self.weights):
            before, after = ((2 * p * weight + left) // (2 * left) for p in (place, place + 1))
            if after > before:
                return sequence, before
            place, left = place - before, left - weight
        raise AssertionError("the last sequence has all that is left")


@dataclass(frozen=True, kw_only=True, slots=True)
class Filling:
    """What of a stream's clips is in a bucket.

    Attributes:
        bucket: its name.
        samples: in an epoch, of all sources.
        share: of the batches.
    """

    bucket: str
    samples: int
    share: float


class Places:
    """The order of a stream.

    Attributes:
        samples: of all buckets and sources, those that have some.
        readers: of the sources.
        dropped: clips that are in no bucket, by reason.

    Raises:
        UsageError: what the sources cannot serve.
    """

    def __init__(self, sources: Sequence[Source], config: StreamConfig, seed: int) -> None:
        seeds = [fold(seed, n, "source") if sources[1:] else seed for n in range(len(sources))]
        opened = [Opened(source, config) for source in sources]
        self._config, self._seed, self._opened = config, seed, opened
        self._buckets: list[list[Samples]] = []
        for number in range(len(config.shapes)):
            those = [
                Samples(one, own, number)
                for one, own in zip(opened, seeds, strict=True)
                if sum(one.found.samples[number])
            ]
            self._buckets += [those] if those else []
        self.samples = [samples for those in self._buckets for samples in those]
        self.readers = [one.reader for one in opened]
        self.dropped = sum((Counter(one.found.dropped) for one in opened), Counter[str]())
        shares = [sum(map(_share, those)) for those in self._buckets]
        common = math.lcm(*(Fraction(share).denominator for share in shares))
        self._interleave = Interleave(tuple(int(share * common) for share in shares))
        self._mixtures = [self._mixture(those) for those in self._buckets]
        _check_sizes(self.samples, config)

    def at(self, position: int) -> tuple[Samples, int]:
        """The samples that a position of the stream is of, and its position among them."""
        batch, place = divmod(position, self._config.batch)
        bucket, number = self._interleave.at(batch)
        source, own = self._mixtures[bucket].at(number * self._config.batch + place)
        return self._buckets[bucket][source], own

    def counts(self) -> Counter[str]:
        """So far, of all sources: bytes read where they lie, ranges that caches had or had not."""
        return sum((one.counts() for one in self._opened), Counter[str]())

    def order(self) -> dict[str, int | str]:
        """What decides it, by name."""
        config = self._config
        facts: dict[str, int | str] = {"seed": self._seed, "window": config.window}
        if config.buckets:
            facts |= {"buckets": _described(config), "batch": config.batch}
        parts = [one.identity() for one in self._opened]
        if len(parts) == 1:
            return {**parts[0], **facts}
        weights = whole_weights([one.source.weight for one in self._opened])
        facts["weights"] = ":".join(map(str, weights))
        named = {
            f"{name} {number}": value
            for number, part in enumerate(parts, 1)
            for name, value in part.items()
        }
        if len(text := json.dumps(named | facts)) > _MOST_NAMED:
            return {"sources": sha256_of(text.encode())[:32], "seed": self._seed}
        return named | facts

    def fillings(self) -> list[Filling]:
        """What is in each bucket that has any clips."""
        weights = self._interleave.weights
        return [
            Filling(
                bucket=str(those[0].bucket),
                samples=sum(samples.order.total for samples in those),
                share=weight / sum(weights),
            )
            for those, weight in zip(self._buckets, weights, strict=True)
        ]

    def _mixture(self, those: Sequence[Samples]) -> Mixture:
        """Of the sources of a bucket; where there are several buckets, to a thousandth."""
        if not self._config.buckets:
            weights = whole_weights([samples.source.weight for samples in those])
        else:
            shares = [_share(samples) for samples in those]
            parts = [max(1, round(_ROUND * share / sum(shares))) for share in shares]
            weights = whole_weights(parts)
        return Mixture(weights=weights, seed=self._seed)


def _share(samples: Samples) -> Fraction:
    """Of the samples of its source, in proportion to that source's weight."""
    return Fraction(str(samples.source.weight)) * Fraction(samples.order.total, samples.of_source)


def _described(config: StreamConfig) -> str:
    """The buckets, and what decides who is in them."""
    text = ", ".join(map(str, config.shapes))
    if len(text) > _MOST_BUCKETS:
        text = sha256_of(text.encode())[:32]
    return f"{text}; {config.fill}{'' if config.resize else ', cut to size'}"


def _check_sizes(samples: Sequence[Samples], config: StreamConfig) -> None:
    """UsageError if clips cannot make up batches as configured.

    With `rgb_on = "device"` whole pictures go there, of one size, and are not resized.
    """
    first = samples[0]
    if config.rgb_on == "device" or first.bucket.size is None:
        for other in samples:
            other.check_size(first.size)
    resized = any(framing.resizes for one in samples for framing in one.framings)
    if config.rgb_on == "device" and resized:
        raise UsageError(
            "stream.rgb_on device cuts and mirrors pictures but does not resize them: use "
            "--stream.no-resize, or --stream.rgb-on host"
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
