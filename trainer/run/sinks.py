"""Where metrics go beside metrics.jsonl; what a sink needs is imported when it is opened."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from shards import UsageError
from trainer.config import TrainConfig
from trainer.run.log import Record
from trainer.run.ranks import Ranks

Listener = Callable[[Record], None]


class Sink(Protocol):
    """Takes a run's metrics; their position is clips trained on."""

    def write(self, record: Record) -> None:
        """A line of metrics.jsonl."""

    def close(self) -> None:
        """Nothing more will come."""


class TensorBoard:
    """Event files in a folder.

    Args:
        clips: where the run stands; what the folder says of later is dropped.
    """

    def __init__(self, folder: Path, clips: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise _missing("tensorboard", error) from error
        self._writer = SummaryWriter(str(folder), purge_step=clips + 1)

    def write(self, record: Record) -> None:
        """A scalar for each number."""
        for name, value in scalars(record).items():
            self._writer.add_scalar(name, value, record["clips"])

    def close(self) -> None:
        """Write what waits."""
        self._writer.close()


class WandB:
    """A run of a project of Weights & Biases, which a resumed one continues."""

    def __init__(self, out: Path, config: TrainConfig) -> None:
        try:
            import wandb
        except ImportError as error:
            raise _missing("wandb", error) from error
        name = hashlib.sha256(str(out.resolve()).encode()).hexdigest()[:16]
        self._run: Any = wandb.init(
            project=config.wandb,
            id=name,
            name=out.name,
            dir=str(out),
            config=asdict(config),
            resume="allow",
        )

    def write(self, record: Record) -> None:
        """All numbers."""
        self._run.log(scalars(record), step=record["clips"])

    def close(self) -> None:
        """Send what waits."""
        self._run.finish()


@contextmanager
def listening(
    config: TrainConfig, out: Path, clips: int, ranks: Ranks, progress: Listener | None
) -> Iterator[list[Listener]]:
    """All that are told each line of metrics.jsonl, in order: on rank 0, and none on others."""
    with ExitStack() as stack:
        sinks = open_sinks(config, out, clips) if ranks.leads else []
        for sink in sinks:
            stack.callback(sink.close)
        told = [progress] if progress is not None and ranks.leads else []
        yield [*(sink.write for sink in sinks), *told]


def open_sinks(config: TrainConfig, out: Path, clips: int) -> list[Sink]:
    """Those that a configuration asks for; UsageError if a package is not installed."""
    sinks: list[Sink] = []
    if config.tensorboard:
        sinks.append(TensorBoard(out / "tensorboard", clips))
    if config.wandb:
        sinks.append(WandB(out, config))
    return sinks


def scalars(record: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a record, by `name` or `name/inner`."""
    found: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            found |= scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            found[f"{prefix}{name}"] = value
    return found


def _missing(package: str, error: ImportError) -> UsageError:
    return UsageError(
        f"{package} is asked for but not installed ({error}): pip install 'fluxshard[{package}]', "
        f"or leave --{package} out; metrics.jsonl has all of it"
    )
