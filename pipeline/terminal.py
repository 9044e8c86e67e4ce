"""What a person sees on the terminal: progress and refusals, on standard error."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pipeline.records import Reject

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


def print_rejects(rejects: Sequence[Reject], most: int = 20) -> None:
    """The first rejects as a table, and how many there are more."""
    if not rejects:
        return
    table = Table("refused", "why", "", box=None, header_style="bold")
    for reject in rejects[:most]:
        table.add_row(Path(reject.path).name, reject.reason, reject.detail)
    terminal.print(table)
    if len(rejects) > most:
        terminal.print(f"… and {len(rejects) - most} more, all in rejects.parquet")
