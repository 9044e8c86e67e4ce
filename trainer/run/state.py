"""All that changes while a run trains."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

from shards import Cursor, fold
from trainer.codec.codec import Codec
from trainer.config import TrainConfig
from trainer.model.network import load_network, require_per_slot
from trainer.model.text import Conditioner
from trainer.run.ranks import Ranks


class Average:
    """The moving average of a model's weights, which evaluation and sampling use; sharded as they.

    Attributes:
        weights: of each parameter, by name.
    """

    def __init__(self, model: nn.Module) -> None:
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module, share: float) -> None:
        """Let the model's present weights have a share, 1 at most, in the average."""
        torch._foreach_lerp_(list(self.weights.values()), list(model.parameters()), share)

    @contextmanager
    def worn(self, model: nn.Module) -> Iterator[None]:
        """The model has the average for weights while the body runs."""
        parameters = list(model.parameters())
        self._swap(parameters)
        try:
            yield
        finally:
            self._swap(parameters)

    @torch.no_grad()
    def _swap(self, parameters: list[nn.Parameter]) -> None:
        for parameter, weight in zip(parameters, self.weights.values(), strict=True):
            held = parameter.clone()
            parameter.copy_(weight)
            weight.copy_(held)


@dataclass(kw_only=True)
class TrainState:
    """All that changes while a run trains. Randomness is derived from the cursor's position.

    Attributes:
        model: with parameters that may be shards (FSDP2).
        network: what to call; the model, or what shares its gradients among ranks.
        average: of the model's weights; None where the run keeps none.
        step: optimizer steps done.
        cursor: where the stream stands.
    """

    model: nn.Module
    network: nn.Module
    average: Average | None
    optimizer: torch.optim.Optimizer
    step: int
    cursor: Cursor

    @property
    def clips(self) -> int:
        """Clips trained on, by all ranks together: what schedules count."""
        return self.cursor.position

    def tensors(self) -> dict[str, Any]:
        """Weights, average and what the optimizer keeps, by the names of the model's parameters."""
        model, optimizer = get_state_dict(self.model, self.optimizer)
        average = {} if self.average is None else {"average": self.average.weights}
        return {"model": model, "optimizer": optimizer, **average}

    def take(self, tensors: dict[str, Any]) -> None:
        """Use what `tensors` gave and a checkpoint filled; the average is filled in its place."""
        set_state_dict(
            self.model,
            self.optimizer,
            model_state_dict=tensors["model"],
            optim_state_dict=tensors["optimizer"],
        )

    @contextmanager
    def judged(self) -> Iterator[nn.Module]:
        """The model as evaluation and sampling use it: with its average weights, if it has them."""
        self.model.eval()
        try:
            if self.average is None:
                yield self.model
            else:
                with self.average.worn(self.model):
                    yield self.model
        finally:
            self.model.train()


def build_network(config: TrainConfig, codec: Codec, conditioner: Conditioner) -> nn.Module:
    """The network of a run; fresh weights are a function of the seed.

    Raises:
        UsageError: the network does not suit what it is to be shown and told.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold(config.seed, "weights"))
        network = load_network(config.model, codec.channels, conditioner.width, conditioner.classes)
    if config.process.per_slot or config.process.given:
        require_per_slot(network)
    return network


def fresh_state(config: TrainConfig, model: nn.Module, cursor: Cursor, ranks: Ranks) -> TrainState:
    """The state of a run before its first step.

    Args:
        model: on the device of this rank.
    """
    network = ranks.spread(model)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.optim.learning_rate,
        betas=(0.9, 0.99),
        weight_decay=config.optim.weight_decay,
        fused=True,
    )
    return TrainState(
        model=model,
        network=network,
        average=Average(model) if config.optim.ema_clips else None,
        optimizer=optimizer,
        step=0,
        cursor=cursor,
    )
