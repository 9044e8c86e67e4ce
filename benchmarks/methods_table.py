"""The table of `methods.py`: each arm beside its reference, seed by seed.

An effect is the mean over seeds of an arm's figure less that of its reference with the same seed.
It is told as seen where a paired t-test finds it at 1 % (the table has about a hundred cells: at
5 %, five would be seen by chance). `least` is the smallest effect that so many seeds would have
seen four times out of five.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy.stats import t as student

FIGURES = (
    "val", "speed", "accel", "motion", "whole", "flicker", "drift", "foreseen", "psnr",
)  # fmt: skip
BEST = {"motion": 1.0, "whole": 1.0, "flicker": 1.0, "warping": 1.0, "psnr": math.inf}  # others: 0
CHANCE, POWER = 0.01, 0.8


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One figure of an arm.

    Attributes:
        values: of its seeds.
        effects: values less those of the reference with the same seeds; none for a reference.
    """

    values: tuple[float, ...]
    effects: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values) if self.values else math.nan

    @property
    def spread(self) -> float:
        """Standard deviation over seeds."""
        return statistics.stdev(self.values) if len(self.values) > 1 else math.nan

    @property
    def effect(self) -> float:
        return statistics.fmean(self.effects) if self.effects else math.nan

    @property
    def error(self) -> float:
        """Standard error of the effect."""
        n = len(self.effects)
        return statistics.stdev(self.effects) / math.sqrt(n) if n > 1 else math.nan

    @property
    def seen(self) -> bool:
        """Whether the effect is told from chance."""
        return abs(self.effect) > student.ppf(1 - CHANCE / 2, len(self.effects) - 1) * self.error

    @property
    def least(self) -> float:
        """The smallest effect that would mostly have been seen."""
        n = len(self.effects)
        factor = student.ppf(1 - CHANCE / 2, n - 1) + student.ppf(POWER, n - 1)
        return float(factor * self.error)


Table = dict[str, dict[str, Cell]]


def cells(
    results: Sequence[Mapping[str, Any]],
    beside: Mapping[str, str],
    figures: Sequence[str] = FIGURES,
) -> Table:
    """Every figure of every arm.

    Args:
        results: of runs: `arm`, `seed`, and figures; those that do not apply are absent.
        beside: the reference of each arm.
        figures: which.
    """
    of = {(run["arm"], run["seed"]): run for run in results}
    found: Table = {}
    for arm in dict.fromkeys(run["arm"] for run in results):
        reference = beside[arm]
        found[arm] = {}
        for name in figures:
            mine = {s: run[name] for (a, s), run in of.items() if a == arm and name in run}
            mine = {seed: value for seed, value in mine.items() if math.isfinite(value)}
            theirs = {s: run[name] for (a, s), run in of.items() if a == reference and name in run}
            both = [seed for seed in mine if reference != arm and seed in theirs]
            effects = tuple(mine[seed] - theirs[seed] for seed in both)
            found[arm][name] = Cell(values=tuple(mine.values()), effects=effects)
    return found


def better(name: str, cell: Cell) -> bool:
    """Whether the effect goes towards what is best."""
    best = BEST.get(name, 0.0)
    if math.isinf(best):
        return cell.effect > 0
    return abs(cell.mean - best) < abs(cell.mean - cell.effect - best)


def lines(table: Table) -> list[str]:
    """A Markdown row for each arm: mean ± deviation over seeds; + and - where an effect is seen."""
    names = _names(table)
    head = ["| arm | seeds | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    rows = []
    for arm, row in table.items():
        seeds = max((len(cell.values) for cell in row.values()), default=0)
        rows.append(f"| {arm} | {seeds} | " + " | ".join(_told(n, row[n]) for n in names) + " |")
    return head + rows


def _names(table: Table) -> list[str]:
    return list(next(iter(table.values()), {}))


def _told(name: str, cell: Cell) -> str:
    if not cell.values:
        return "–"
    mark = (" **+**" if better(name, cell) else " **−**") if cell.effects and cell.seen else ""
    spread = f" ±{cell.spread:.3f}" if len(cell.values) > 1 else ""
    return f"{cell.mean:.3f}{spread}{mark}"


def least_lines(table: Table) -> list[str]:
    """A Markdown row for each arm: its effects, and the least that would have been seen."""
    names = _names(table)
    head = ["| arm | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    rows = []
    for arm, row in table.items():
        if any(cell.effects for cell in row.values()):
            told = (
                f"{c.effect:+.3f} ({c.least:.3f})" if len(c.effects) > 1 else "–"
                for c in (row[name] for name in names)
            )
            rows.append(f"| {arm} | " + " | ".join(told) + " |")
    return head + rows
