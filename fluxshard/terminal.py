"""What a person sees on the terminal: progress and refusals, on standard error."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pipeline.building.costs import Costs
from pipeline.records import Reject

if TYPE_CHECKING:  # it brings Dask, which most commands do without
    from pipeline.building.job import Outcome

_MOST = 20  # lines of one kind
terminal = Console(stderr=True)  # standard output is for what was asked for


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Live bars on the terminal: call the value with (what, done, total)."""
    columns = (
        TextColumn("{task.description:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=terminal) as progress:
        bars: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            name = what.partition(" ")[0]
            if name not in bars:
                bars[name] = progress.add_task(name)
            progress.update(bars[name], description=what, completed=done, total=total)

        yield show


def print_rejects(rejects: Sequence[Reject]) -> None:
    """The first rejects as a table, and how many there are more."""
    if not rejects:
        return
    table = Table("refused", "why", "", box=None, header_style="bold")
    for reject in rejects[:_MOST]:
        table.add_row(Path(reject.path).name, reject.reason, reject.detail)
    terminal.print(table)
    if len(rejects) > _MOST:
        terminal.print(f"… and {len(rejects) - _MOST} more, all in rejects.parquet")


def print_outcome(outcome: "Outcome", out: str) -> None:
    """What failed, what was noticed, what was copied and computed, how many shards there are."""
    for shard, error in outcome.failed.items():
        terminal.print(f"[red]shard {shard} failed:[/] {error}", highlight=False)
    warnings = sorted(outcome.costs.warnings)
    for warning in warnings[:_MOST]:
        terminal.print(f"[yellow]warning:[/] {warning}", highlight=False)
    if len(warnings) > _MOST:
        terminal.print(f"… and {len(warnings) - _MOST} more like these")
    for line in flow_lines(outcome.costs):
        terminal.print(line, highlight=False)
    inputs = f"inputs: {outcome.inputs}, rejects: {len(outcome.rejects)}, " * bool(outcome.inputs)
    terminal.print(
        f"{inputs}clips: {outcome.clips}; shards: {outcome.built} built, {outcome.kept} kept, "
        f"{len(outcome.failed)} failed → {out}"
    )


def flow_lines(costs: Costs) -> list[str]:
    """How many fields each layer took from where, and the share of each stage in the work."""
    lines = []
    for layer in sorted({*costs.computed, *(layer for layer, _ in costs.reused)}):
        origins = [(n, url) for (name, url), n in sorted(costs.reused.items()) if name == layer]
        copied = "".join(f", {count} copied from {url}" for count, url in origins)
        lines.append(f"flow {layer}: {costs.computed[layer]} fields computed{copied}")
    total = sum(costs.seconds.values())
    if total:
        shares = ", ".join(f"{name} {s / total:.0%}" for name, s in costs.seconds.items())
        lines.append(f"work: {total:.1f} s ({shares})")
    return lines


def print_facts(facts: dict[str, Any]) -> None:
    """Named values, one a row."""
    table = Table(show_header=False, box=None)
    for name, value in facts.items():
        table.add_row(name.replace("_", " "), _readable(name, value))
    terminal.print(table)


def _readable(name: str, value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_readable(key, item)}" for key, item in value.items()) or "none"
    if name.endswith("bytes"):
        return f"{value / 2**20:,.1f} MiB"
    return str(value)
