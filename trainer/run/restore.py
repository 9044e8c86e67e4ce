"""A run as others use it: its configuration, and its model as it was last saved."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import torch
from torch import Tensor, nn

from shards import UsageError
from trainer.codec.choose import load_codec
from trainer.codec.codec import Codec
from trainer.config import TrainConfig
from trainer.model.network import load_network
from trainer.model.text import Conditioner
from trainer.run.checkpoint import CHECKPOINT, CONFIG


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """What a run was.

    Attributes:
        config: of the training.
        size: height and width of its clips.
    """

    config: TrainConfig
    size: tuple[int, int]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Trained:
    """What a run made, ready to sample from.

    Attributes:
        network: in evaluation mode.
        codec: of what the network sees.
        conditioner: of what it is told.
    """

    network: nn.Module
    codec: Codec
    conditioner: Conditioner


def read_run(run: str | Path) -> RunFacts:
    """What the folder of a run says of it.

    Raises:
        UsageError: it is none, or one of another version.
    """
    path = Path(run) / CONFIG
    if not path.is_file():
        raise UsageError(f"{run} is no run: it has no {CONFIG}; `fluxshard train` makes one")
    tree = json.loads(path.read_text())
    tree.pop("flow_layer", None)
    if "size" not in tree:
        raise UsageError(
            f"{path} does not say how large its clips are: it is of an earlier version; one more "
            "step of training with this one adds it"
        )
    height, width = tree.pop("size")
    return RunFacts(config=_from_tree(TrainConfig, tree, str(path)), size=(height, width))


def load_trained(
    run: str | Path, config: TrainConfig, device: torch.device, *, average: bool = True
) -> Trained:
    """The model of a run's newest checkpoint, and what belongs to it.

    Args:
        average: of its weights over the last steps, which samples better; else as they are.

    Raises:
        UsageError: there is no checkpoint, or it holds no average.
    """
    weights = _weights(run, device, average)
    codec, conditioner = load_codec(config.codec, device), Conditioner(config.conditioning, device)
    network = load_network(config.model, codec.channels, conditioner.width, conditioner.classes)
    network.load_state_dict(weights)
    return Trained(network=network.to(device).eval(), codec=codec, conditioner=conditioner)


def _weights(run: str | Path, device: torch.device, average: bool) -> Mapping[str, Tensor]:
    path = Path(run) / CHECKPOINT
    if not path.is_file():
        raise UsageError(f"{run} has no {CHECKPOINT} yet; it is written as the run goes on")
    state = torch.load(path, map_location=device, weights_only=True)
    if not average:
        return state["model"]
    if state["average"] is None:
        raise UsageError(
            f"{run} keeps no average of its weights (optim.ema_halflife is 0): sample with --no-ema"
        )
    named = state["average"].items()
    return {name.removeprefix("module."): x for name, x in named if name != "n_averaged"}


def _from_tree(kind: Any, tree: dict[str, Any], where: str) -> Any:
    """A configuration of its JSON; what is left out has its default."""
    hints = get_type_hints(kind)
    unknown = sorted(tree.keys() - {field.name for field in fields(kind)})
    if unknown:
        raise UsageError(f"{where} has {', '.join(unknown)}, which this version does not know")
    values = {}
    for name, value in tree.items():
        if is_dataclass(hints[name]):
            value = _from_tree(hints[name], value, where)
        values[name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)
