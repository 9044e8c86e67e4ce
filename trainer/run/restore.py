"""A run as others use it: its configuration, and its model as it was last saved."""

import json
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import torch

from shards import UsageError
from trainer.config import TrainConfig
from trainer.model.transformer import SpaceTimeTransformer
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


def load_model(
    run: str | Path, config: TrainConfig, device: torch.device, *, average: bool = True
) -> torch.nn.Module:
    """The model of a run's newest checkpoint, ready to sample from.

    Args:
        average: of its weights over the last steps, which samples better; else as they are.

    Raises:
        UsageError: there is no checkpoint, or it holds no average.
    """
    path = Path(run) / CHECKPOINT
    if not path.is_file():
        raise UsageError(f"{run} has no {CHECKPOINT} yet; it is written as the run goes on")
    state = torch.load(path, map_location=device, weights_only=True)
    weights = state["model"]
    if average:
        if state["average"] is None:
            raise UsageError(
                f"{run} keeps no average of its weights (optim.ema_halflife is 0): sample with "
                "--no-ema"
            )
        named = state["average"].items()
        weights = {name.removeprefix("module."): x for name, x in named if name != "n_averaged"}
    model = SpaceTimeTransformer(config.model).to(device)
    model.load_state_dict(weights)
    return model.eval()


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
