"""The run folder: the resolved configuration, the newest checkpoint, and when a run may go on."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel

from shards import Cursor, Store, UsageError
from trainer.config import TrainConfig

CHECKPOINT, CONFIG, METRICS = "checkpoint.pt", "config.json", "metrics.jsonl"

# What may differ between the parts of one run, because no step computes anything else by it.
_FREE = {
    "steps",
    "device",
    "log_every",
    "checkpoint_every",
    "stream.threads",
    "stream.prefetch",
    "stream.prefetch_mib",
    "stream.max_damaged",
    "model.checkpointing",
    "conditioning.cache_mib",
    "size",  # the dataset's, which the cursor knows
}


@dataclass(kw_only=True)
class TrainState:
    """All that changes while a run trains. Randomness is derived from the cursor's position.

    Attributes:
        average: of the model's weights; None where the run keeps none.
        step: optimizer steps done.
        cursor: where the stream stands.
    """

    model: torch.nn.Module
    average: AveragedModel | None
    optimizer: torch.optim.Optimizer
    step: int
    cursor: Cursor

    def save(self, out: Path) -> None:
        """Write the checkpoint of run folder `out`; a crash leaves the one before."""
        state = {
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "cursor": self.cursor.to_json(),
        }
        with Store(out).publish(CHECKPOINT) as file:
            torch.save(state, file)

    def restore(self, out: Path, device: torch.device) -> None:
        """Take everything from the checkpoint of run folder `out`."""
        state = torch.load(out / CHECKPOINT, map_location=device, weights_only=True)
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self.cursor = Cursor.from_json(state["cursor"])


def open_run(out: Path, config: TrainConfig, layer: str | None, size: tuple[int, int]) -> bool:
    """Prepare run folder `out` for `config`; True if it holds a checkpoint to go on from.

    Args:
        layer: full name of the flow layer, whose digest says which flow the run learns from.
        size: height and width of the clips, for those who sample from the run.

    Raises:
        UsageError: the folder holds a run of another configuration; the message says what differs.
    """
    now = json.loads(json.dumps({**asdict(config), "flow_layer": layer, "size": size}))
    resumes = (out / CHECKPOINT).exists()
    if resumes:
        differing = _differences(json.loads((out / CONFIG).read_text()), now)
        if differing:
            listed = "\n".join(f"  {key}: {old} -> {new}" for key, (old, new) in differing.items())
            raise UsageError(
                f"{out} holds a run with another configuration:\n{listed}\n"
                "train into another folder, or with the configuration of the run"
            )
    out.mkdir(parents=True, exist_ok=True)
    with Store(out).publish(CONFIG) as file:
        file.write((json.dumps(now, indent=1) + "\n").encode())
    return resumes


def _differences(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Settings that decide what a step computes and differ, by dotted name."""
    before, after = _flat(old), _flat(new)
    return {
        key: (before.get(key), after.get(key))
        for key in sorted((before.keys() | after.keys()) - _FREE)
        if before.get(key) != after.get(key)
    }


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        inner = _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else None
        flat.update({f"{prefix}{key}": value} if inner is None else inner)
    return flat
