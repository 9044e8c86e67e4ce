"""What building cost: flow copied and computed, seconds by stage, what was noticed on the way."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

STAGES = ("decode", "encode", "flow", "copy", "figures")


@dataclass(kw_only=True, slots=True)
class Tally:
    """Counts of one shard or of many; a worker returns its own, the job adds them up.

    Attributes:
        reused: flow fields copied, by (layer, URL of the dataset that they came from).
        computed: flow fields estimated, by layer.
        seconds: of processing by stage, over all workers: decoding the videos, encoding the clips,
            estimating flow, copying flow, and decoding it again for its figures.
        warnings: what could not be reused, and why.
    """

    reused: Counter[tuple[str, str]] = field(default_factory=Counter)
    computed: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    warnings: set[str] = field(default_factory=set)

    def add(self, other: "Tally") -> None:
        """Take over what another one counted."""
        self.reused += other.reused
        self.computed += other.computed
        self.warnings |= other.warnings
        for stage, seconds in other.seconds.items():
            self.seconds[stage] += seconds

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count the seconds that the body takes."""
        began = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - began
