"""The run folder: the resolved configuration, the latest checkpoints, and when a run may go on.

    config.json  config.toml  metrics.jsonl
    checkpoints/000000008000/{state.json, .metadata, *.distcp}

A checkpoint is a folder named by the clips trained on, which appears whole or not at all. Each rank
writes its part (torch.distributed.checkpoint), and any number of ranks reads all.
"""

import json
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from shards import Cursor, Store, UsageError
from shards.store import TEMPORARY_PREFIX, sync_folder
from trainer.config import TrainConfig
from trainer.run.failures import not_written
from trainer.run.ranks import Ranks
from trainer.run.state import Average, TrainState
from trainer.settings import to_toml

CHECKPOINTS, CONFIG, METRICS = "checkpoints", "config.json", "metrics.jsonl"
TOML = "config.toml"

# What may differ between the parts of one run: how long it is and how it ends, and what no step
# computes anything else by.
_FREE = {
    *("clips", "optim.decay_clips", "device", "parallel", "data", "size"),
    *("log_steps", "tensorboard", "wandb"),
    *("checkpoint_clips", "keep_checkpoints", "optim.accumulate"),
    *("stream.threads", "stream.prefetch", "stream.prefetch_mib", "stream.max_damaged"),
    *("stream.rgb_on", "stream.flow_on"),
    *("stream.process", "stream.cache", "stream.cache_gb"),
    *("validation.every_clips", "validation.clips", "validation.levels"),
    *("model.checkpointing", "conditioning.cache_mib"),
}


def latest(out: Path) -> Path | None:
    """The newest checkpoint of a run, if it has one."""
    return max((path for path in (out / CHECKPOINTS).glob("[0-9]*")), default=None)


def save(state: TrainState, out: Path, ranks: Ranks, keep: int) -> None:
    """Write a checkpoint into run folder `out`, all ranks together; a crash leaves those before.

    Args:
        keep: how many of the latest to leave there.
    """
    folder = out / CHECKPOINTS
    part = folder / f"{TEMPORARY_PREFIX}checkpoint"

    def begin() -> None:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)

    def commit() -> None:
        facts = {"step": state.step, "cursor": state.cursor.to_json(), "torch": torch.__version__}
        Store(part).write("state.json", json.dumps(facts, indent=1).encode())
        final = folder / f"{state.clips:012d}"
        shutil.rmtree(final, ignore_errors=True)
        part.rename(final)
        sync_folder(str(folder))
        for old in sorted(folder.glob("[0-9]*"))[:-keep]:
            shutil.rmtree(old)

    try:
        ranks.lead(begin)
        with _one_process_is_fine():
            dcp.save(state.tensors(), checkpoint_id=part, no_dist=not dist.is_initialized())
        ranks.lead(commit)
    except CheckpointException as error:
        raise not_written(error, folder) from error
    finally:
        if ranks.leads:
            shutil.rmtree(part, ignore_errors=True)  # what an error left


def restore(state: TrainState, checkpoint: Path) -> None:
    """Take everything from a checkpoint, which any number of ranks wrote."""
    tensors = state.tensors()
    _read(tensors, checkpoint)
    state.take(tensors)
    facts = json.loads((checkpoint / "state.json").read_text())
    state.step, state.cursor = facts["step"], Cursor.from_json(facts["cursor"])


def begin_from(state: TrainState, run: Path, which: Literal["average", "last"]) -> None:
    """Begin with the weights of another run; see `read_weights`."""
    read_weights(state.model, run, which)
    if state.average is not None:
        state.average = Average(state.model)


def read_weights(model: nn.Module, run: Path, which: Literal["average", "last"]) -> None:
    """Give a model the weights of a run's newest checkpoint; the model's may be shards.

    Args:
        which: their average, or those of the last step.

    Raises:
        UsageError: there is no checkpoint, or none of these in it, or they are of another shape.
    """
    checkpoint = latest(run)
    if checkpoint is None:
        raise UsageError(f"{run} holds no checkpoint: give the folder of a run that wrote one")
    stored = dcp.FileSystemReader(checkpoint).read_metadata().state_dict_metadata
    prefix = "average" if which == "average" else "model"
    if not any(name.startswith(f"{prefix}.") for name in stored):
        raise UsageError(
            f"{run} keeps no average of its weights (optim.ema_clips is 0): ask for those of its "
            "last step (train --init-with last, eval --weights last, sample --no-ema)"
        )
    wanted = dict(model.named_parameters())
    _check_shapes(wanted, stored, prefix, run)
    values = {name: parameter.detach() for name, parameter in wanted.items()}
    _read({prefix: values}, checkpoint)


def _read(tensors: dict[str, Any], checkpoint: Path) -> None:
    """Fill tensors from a checkpoint, all ranks together; each reads what it has of them."""
    with _one_process_is_fine():
        dcp.load(tensors, checkpoint_id=checkpoint, no_dist=not dist.is_initialized())


@contextmanager
def _one_process_is_fine() -> Iterator[None]:
    """Without torch's warning that there is no group of processes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        yield


def _check_shapes(
    wanted: Mapping[str, Tensor], stored: Mapping[str, Any], prefix: str, run: Path
) -> None:
    differing = []
    for name, value in wanted.items():
        found = stored.get(f"{prefix}.{name}")
        there = list(found.size) if isinstance(found, TensorStorageMetadata) else "nothing"
        if there != list(value.shape):
            differing.append(f"{name} is {list(value.shape)} here and {there} there")
    if differing:
        raise UsageError(
            f"the network of {run} is another one: {'; '.join(differing[:3])}"
            f"{f'; and {len(differing) - 3} more' * (len(differing) > 3)}. Set model.* as in its "
            f"{CONFIG}"
        )


def open_run(
    out: Path, config: TrainConfig, layer: str | None, size: tuple[int, int], data: str = ""
) -> Path | None:
    """Prepare run folder `out` for `config`; the checkpoint to go on from, if it holds one.

    Args:
        layer: full name of the flow layer, whose digest says which flow the run learns from.
        size: height and width of the clips, for those who sample from the run.
        data: dataset folder or URL, for those who judge it.

    Raises:
        UsageError: the folder holds a run of another configuration; the message says what differs.
    """
    now = json.loads(
        json.dumps({**asdict(config), "flow_layer": layer, "size": size, "data": data})
    )
    checkpoint = latest(out)
    if checkpoint is not None:
        differing = _differences(json.loads((out / CONFIG).read_text()), now)
        if differing:
            listed = "\n".join(f"  {key}: {old} -> {new}" for key, (old, new) in differing.items())
            raise UsageError(
                f"{out} holds a run with another configuration:\n{listed}\n"
                "train into another folder, or with the configuration of the run; to begin with "
                f"its weights, train into another folder with --init-from {out}"
            )
    out.mkdir(parents=True, exist_ok=True)
    Store(out).write(CONFIG, (json.dumps(now, indent=1) + "\n").encode())
    Store(out).write(TOML, to_toml(config).encode())
    return checkpoint


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
