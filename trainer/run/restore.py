"""A run as others use it: its configuration, and its model as it was last saved."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from shards import UsageError
from trainer.codec.choose import load_codec
from trainer.codec.codec import Codec
from trainer.config import TrainConfig
from trainer.model.text import Conditioner
from trainer.run.checkpoint import CONFIG, read_weights
from trainer.run.state import build_network
from trainer.settings import config_of


@dataclass(frozen=True, kw_only=True, slots=True)
class RunFacts:
    """What a run was.

    Attributes:
        config: of the training.
        size: height and width of its clips.
        data: the dataset that it trained on, folder or URL.
        layer: full name of the flow layer that it learned from; None: it did without.
    """

    config: TrainConfig
    size: tuple[int, int]
    data: str
    layer: str | None = None

    @property
    def estimators(self) -> set[str]:
        """The flow estimators whose motion it was taught: the layer's, and the one beside it."""
        named = self.config.flow_loss.estimator
        stored = set() if self.layer is None else {self.layer.rpartition("-")[0]}
        return stored | ({named} if stored and named else set())


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Trained:
    """What a run made, ready to sample from or to judge.

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
    table = json.loads(path.read_text())
    try:
        (height, width), data = table.pop("size"), table.pop("data")
        layer = table.pop("flow_layer")
    except KeyError as error:
        raise UsageError(f"{path} is of another version: it does not say its {error}") from error
    try:
        config = config_of(table)
        return RunFacts(config=config, size=(height, width), data=data, layer=layer)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def load_trained(
    run: str | Path, config: TrainConfig, device: torch.device, *, average: bool = True
) -> Trained:
    """The model of a run's newest checkpoint, and what belongs to it.

    Args:
        average: of its weights over the last steps, which samples better; else as they are.

    Raises:
        UsageError: there is no checkpoint, it holds no average, or one of another network.
    """
    codec, conditioner = load_codec(config.codec, device), Conditioner(config.conditioning, device)
    network = build_network(config, codec, conditioner).to(device).eval()
    read_weights(network, Path(run), "average" if average else "last")
    return Trained(network=network, codec=codec, conditioner=conditioner)
