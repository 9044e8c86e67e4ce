"""metrics.jsonl: one JSON object a step, read from the device only when lines are written.

A step is described in parts: each rank describes each of its micro-batches. `joined` makes one
record of them, so that what is written is of the global batch.
"""

import json
import math
from collections.abc import Sequence
from itertools import chain, compress
from pathlib import Path
from statistics import fmean
from typing import Any

from torch import Tensor

from trainer.run.ranks import Ranks
from trainer.stream.batch import Batch
from trainer.terms.term import Chosen

Record = dict[str, Any]
_LOSSES = {"loss", "recon"}  # where a part that is no number is a finding, not the lack of one


def describe(batch: Batch) -> Record:
    """What a batch was made of; `moved` is a share of slots."""
    record: Record = {
        "clips": batch.cursor.position,
        "stage": batch.stage.number,
        "moved": batch.moved,
    }
    if batch.damaged:
        record["damaged"] = {clip.key: clip.reason for clip in batch.damaged}
    return record


def check_loss(line: Record) -> None:
    """FloatingPointError if the loss of a line of the log is no number."""
    if line["loss"] is None:
        names = line.get("flow_lost")
        lost = f" (no finite flow between frames {', '.join(names)})" if names else ""
        raise FloatingPointError(
            f"the loss is not a number at step {line['step']}{lost}: lower optim.learning_rate or "
            "flow_loss.weight; the last checkpoint is intact"
        )


def joined(parts: Sequence[Record]) -> Record:
    """One record of those of a step's parts.

    Of a fraction it is the mean over the parts that know it, lists go together, of tables each
    entry's largest number (seconds: the slowest rank's); all else is the same in each.
    """
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: _one(name, [part[name] for part in parts if name in part]) for name in names}


def _one(name: str, values: list[Any]) -> Any:
    match values[0]:
        case float():
            known = [value for value in values if name in _LOSSES or not math.isnan(value)]
            return fmean(known) if known else math.nan
        case list():
            return list(chain.from_iterable(values))
        case dict():
            entries = dict.fromkeys(key for table in values for key in table)
            return {key: max(table[key] for table in values if key in table) for key in entries}
    return values[0]


class MetricsLog:
    """Collects records whose values may be on a device, and appends them to a file.

    A step waits for no result: reading a value back from a GPU waits for all work queued on it.
    """

    def __init__(self, path: Path, ranks: Ranks, keep_steps: int = 0) -> None:
        """Continue the log of a run that stands at step `keep_steps`; later lines are dropped.

        Args:
            ranks: rank 0 writes for all of them.
        """
        self.path, self._ranks = path, ranks
        self._waiting: list[Sequence[Record]] = []
        if ranks.leads:
            path.write_text("".join([] if keep_steps == 0 else _lines_until(path, keep_steps)))

    def add(self, parts: Sequence[Record]) -> None:
        """What this rank says of a step, of one or several parts of its batch."""
        self._waiting.append(parts)

    def flush(self) -> list[Record]:
        """Write what was added since the last flush, and return it, on all ranks alike.

        Not-a-number becomes null. All ranks call it at the same step.
        """
        ours = [[_fetched(part) for part in step] for step in self._waiting]
        self._waiting.clear()
        steps = zip(*self._ranks.gather(ours), strict=True)
        records = [_plain(joined(list(chain.from_iterable(step)))) for step in steps]
        if self._ranks.leads:
            with self.path.open("a") as file:
                file.writelines(json.dumps(record) + "\n" for record in records)
        return records


def _lines_until(path: Path, step: int) -> list[str]:
    if not path.exists():
        return []
    with path.open() as file:
        return [line for line in file if line.endswith("\n") and json.loads(line)["step"] <= step]


def _fetched(value: Any) -> Any:
    """The same with nothing on a device."""
    match value:
        case dict():
            return {key: _fetched(inner) for key, inner in value.items()}
        case Chosen(names=names, where=where):
            return list(compress(names, where.tolist()))
        case Tensor():
            return value.item()
    return value


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else None  # all of a float32
    return value
