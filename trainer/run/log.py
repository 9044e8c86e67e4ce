"""metrics.jsonl: one JSON object a step, read from the device only when lines are written."""

import json
import math
from itertools import compress
from pathlib import Path
from typing import Any

from torch import Tensor

from trainer.terms.term import Chosen

Record = dict[str, Any]


class MetricsLog:
    """Collects records whose values may be on a device, and appends them to a file.

    A step waits for no result: reading a value back from a GPU waits for all work queued on it.
    """

    def __init__(self, path: Path, keep_steps: int = 0) -> None:
        """Continue the log of a run that stands at step `keep_steps`; later lines are dropped."""
        self.path = path
        self._waiting: list[Record] = []
        kept = [] if keep_steps == 0 else _lines_until(path, keep_steps)
        path.write_text("".join(kept))

    def add(self, record: Record) -> None:
        self._waiting.append(record)

    def flush(self) -> list[Record]:
        """Write what was added since the last flush and return it; not-a-number becomes null."""
        records = [_plain(record) for record in self._waiting]
        self._waiting.clear()
        with self.path.open("a") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
        return records


def _lines_until(path: Path, step: int) -> list[str]:
    if not path.exists():
        return []
    with path.open() as file:
        return [line for line in file if line.endswith("\n") and json.loads(line)["step"] <= step]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, Chosen):
        return list(compress(value.names, value.where.tolist()))
    if isinstance(value, Tensor):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else None  # all of a float32
    return value
