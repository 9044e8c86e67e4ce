"""What building cost: flow copied and computed, seconds by stage, what was noticed on the way."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """Of one shard or of many: costs add up.

    Attributes:
        reused: flow fields copied, by (layer, URL of the dataset that they came from).
        computed: flow fields estimated, by layer.
        seconds: of processing by stage, over all workers: `decode` the videos, `encode` the clips,
            `copy` flow, estimate `flow` and visibility, code them to `store`, and judge them for
            the `figures`.
        warnings: what could not be reused, and why.
    """

    reused: Counter[tuple[str, str]] = field(default_factory=Counter)
    computed: Counter[str] = field(default_factory=Counter)
    seconds: Mapping[str, float] = field(default_factory=dict)
    warnings: frozenset[str] = frozenset()

    def __add__(self, other: "Costs") -> "Costs":
        stages = [*self.seconds, *(stage for stage in other.seconds if stage not in self.seconds)]
        return Costs(
            reused=self.reused + other.reused,
            computed=self.computed + other.computed,
            seconds={s: self.seconds.get(s, 0.0) + other.seconds.get(s, 0.0) for s in stages},
            warnings=self.warnings | other.warnings,
        )
