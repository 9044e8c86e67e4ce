"""What a person sees: progress and outcomes on standard error, answers on standard output.

Text from users (paths, captions, messages that name them) is printed as it is: it never passes a
parser of markup, and what cannot be encoded is escaped.
"""

import csv
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:  # they bring Dask, which most commands do without
    from pipeline.building.costs import Costs
    from pipeline.building.dry_run import Prediction
    from pipeline.building.job import Outcome
    from pipeline.records import Reject

_MOST = 20  # lines of one kind
terminal = Console(stderr=True, markup=False, highlight=False, emoji=False)


def readable(text: str) -> str:
    r"""The text with `\udc..` for the bytes of file names that are no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def say(text: str, label: str = "", style: str = "") -> None:
    """A line on standard error, after a label in a style; long lines are left whole."""
    words = Text.assemble((f"{label}: ", style) if label else "", readable(text))
    terminal.print(words, soft_wrap=True)


def write(*lines: str) -> None:
    """Lines on standard output, which is for what was asked for."""
    sys.stdout.writelines(f"{readable(line)}\n" for line in lines)


@contextmanager
def progress_bars(*, hidden: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Live bars on the terminal: call the value with (what, done, total)."""
    columns = (
        TextColumn("{task.description:<8}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=terminal, disable=hidden) as progress:
        bars: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            name = what.partition(" ")[0]
            if name not in bars:
                # What was done before does not count for the time that remains.
                bars[name] = progress.add_task(name, completed=done, total=total)
            progress.update(bars[name], description=what, completed=done, total=total)

        yield show


def print_rejects(rejects: "Sequence[Reject]") -> None:
    """The first rejects as a table, and how many there are more."""
    if not rejects:
        return
    table = Table("refused", "why", "", box=None, header_style="bold")
    for reject in rejects[:_MOST]:
        table.add_row(*map(_cell, (Path(reject.path).name, reject.reason, reject.detail)))
    terminal.print(table)
    if len(rejects) > _MOST:
        say(f"… and {len(rejects) - _MOST} more, all in rejects.parquet")


def _cell(text: str) -> Text:
    return Text(readable(text))


def print_unscanned(errors: Mapping[str, str]) -> None:
    """Why the first of some inputs, by path, could not be scanned, and how many there are more."""
    for path, error in list(errors.items())[:_MOST]:
        say(f"{path}: {error}", "not scanned", "red")
    if len(errors) > _MOST:
        say(f"… and {len(errors) - _MOST} more that could not be scanned")


def print_table(
    names: Sequence[str], rows: Sequence[Sequence[str]], *, error: bool = False
) -> None:
    """A table on standard output, or error; texts too long for its columns are folded."""
    table = Table(*names, box=None, header_style="bold")
    for row in rows:
        table.add_row(*map(_cell, row))
    console = terminal if error else Console(markup=False, highlight=False, emoji=False)
    console.print(table)


def write_csv(names: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The same as CSV."""
    lines = csv.writer(sys.stdout, lineterminator="\n")
    lines.writerow(names)
    lines.writerows([readable(text) for text in row] for row in rows)


def prediction_facts(prediction: "Prediction") -> dict[str, Any]:
    """What a build would make and cost, as `print_facts` takes it."""
    clips = prediction.bytes.get("clips", 0.0)
    layers = {
        name: {
            "bytes": prediction.bytes[name],
            "fields": f"{fields:,.0f}, {prediction.copied[name]:.0%} of them copied",
        }
        for name, fields in prediction.fields.items()
    }
    return {
        "clips": f"{prediction.clips:,}",
        "shards": f"{prediction.shards:,}",
        "clip_bytes": clips,
        "layers": layers,
        "core_hours": f"{prediction.core_seconds / 3600:.3g}",
        "known_from": f"{prediction.sampled:,} clips that were built for it",
        "standard_error": f"{prediction.error:.0%} of the bytes",
    }


def print_outcome(outcome: "Outcome", out: str) -> None:
    """What failed, what was noticed, what was copied and computed, how many shards there are."""
    print_unscanned(outcome.unscanned)
    for shard, error in outcome.failed.items():
        say(error, f"shard {shard} failed", "red")
    warnings = sorted(outcome.costs.warnings)
    for warning in warnings[:_MOST]:
        say(warning, "warning", "yellow")
    if len(warnings) > _MOST:
        say(f"… and {len(warnings) - _MOST} more like these")
    for line in flow_lines(outcome.costs):
        say(line)
    inputs = f"inputs: {outcome.inputs}, rejects: {len(outcome.rejects)}, " * bool(outcome.inputs)
    say(
        f"{inputs}clips: {outcome.clips}; shards: {outcome.built} built, {outcome.kept} kept, "
        f"{len(outcome.failed)} failed → {out}"
    )


def flow_lines(costs: "Costs") -> list[str]:
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
    """Named values, one per row."""
    table = Table(show_header=False, box=None)
    for name, value in facts.items():
        table.add_row(name.replace("_", " "), _cell(_worded(name, value)))
    terminal.print(table)


def _worded(name: str, value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_worded(key, item)}" for key, item in value.items()) or "none"
    if isinstance(value, tuple):  # what made something
        return "; ".join(", ".join(map(" ".join, maker.items())) for maker in value)
    if name.endswith("bytes"):
        return f"{value / 2**20:,.1f} MiB"
    return str(value)
