from dataclasses import replace

import pytest
import torch
from torch import nn

from shards import UsageError
from shards.order import Cursor
from trainer.codec.pixels import Pixels
from trainer.config import ConditioningConfig, ProcessConfig, TrainConfig
from trainer.model.text import Conditioner
from trainer.model.transformer import SpaceTimeTransformer
from trainer.run.ranks import Ranks
from trainer.run.state import Average, build_network, fresh_state

ALONE = Ranks(device=torch.device("cpu"))
SILENT = Conditioner(ConditioningConfig())


def test_weights_are_a_function_of_the_seed_and_leave_the_global_state_alone(
    config: TrainConfig,
) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first, again, other = (
        build_network(replace(config, seed=seed), Pixels(), SILENT).state_dict()["embed.weight"]
        for seed in (0, 0, 1)
    )
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("process", [ProcessConfig(per_slot=0.1), ProcessConfig(given=1)], ids=str)
def test_a_network_of_one_level_is_refused_where_slots_differ(
    config: TrainConfig, process: ProcessConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SpaceTimeTransformer, "per_slot", False)
    build_network(config, Pixels(), SILENT)
    with pytest.raises(UsageError, match="takes one noise level a clip"):
        build_network(replace(config, process=process), Pixels(), SILENT)


def test_an_average_moves_by_its_share_and_is_worn_and_taken_off() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 8.0)
    average = Average(model)
    nn.init.constant_(model.weight, 4.0)
    average.update(model, 1.0)
    nn.init.constant_(model.weight, 0.0)
    average.update(model, 0.25)
    assert average.weights["weight"].item() == 3
    with average.worn(model):
        assert model.weight.item() == 3
    assert (model.weight.item(), average.weights["weight"].item()) == (0, 3)
    assert model.weight.requires_grad


@pytest.mark.parametrize("halflife", [0, 5])
def test_a_run_is_judged_by_its_average_where_it_has_one(
    config: TrainConfig, halflife: int
) -> None:
    config = replace(config, optim=replace(config.optim, ema_clips=halflife))
    state = fresh_state(config, build_network(config, Pixels(), SILENT), Cursor(order={}), ALONE)
    state.model.train()
    before = state.model.get_parameter("embed.bias").detach().clone()
    with torch.no_grad():
        state.model.get_parameter("embed.bias").add_(1)
    with state.judged() as network:
        assert not network.training
        change = network.get_parameter("embed.bias") - before
        assert change.allclose(torch.tensor(0.0 if halflife else 1.0))
    assert state.model.training
    assert torch.equal(state.model.get_parameter("embed.bias"), before + 1)
