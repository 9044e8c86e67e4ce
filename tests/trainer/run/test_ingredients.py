from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import nn

from trainer.config import FlowLossConfig, SmoothnessConfig, TrainConfig, WarpingConfig
from trainer.run.ingredients import choose_source, in_precision, open_terms
from trainer.spatial.framing import Framing
from trainer.stream.engine import Stream
from trainer.stream.source import Source
from trainer.temporal.recipe import PlainRecipe

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("precision", "expected"),
    [("auto", torch.float32), ("fp32", torch.float32), ("bf16", torch.bfloat16)],
)
def test_a_network_computes_in_what_is_asked_for(
    precision: Literal["auto", "fp32", "bf16"], expected: torch.dtype
) -> None:
    network = nn.Linear(4, 4)
    config = replace(TrainConfig(), precision=precision)
    told = in_precision(lambda x, *_: network(x), config, CPU)
    assert told(torch.ones(2, 4), torch.ones(2), torch.ones(2), None).dtype == expected
    assert network.weight.dtype == torch.float32


def framings_of(source: Source, config: TrainConfig) -> list[Framing]:
    return Stream(source, config.stream, PlainRecipe(8), seed=0).framings


def test_losses_with_a_weight_are_opened_and_no_others(made, config: TrainConfig) -> None:
    source = choose_source(made.dataset, config)
    assert source.layer is not None
    (only,) = open_terms(source.layer, framings_of(source, config), config)
    assert type(only).__name__ == "FlowLoss"
    off = replace(config, flow_loss=FlowLossConfig(weight=0.0))
    assert choose_source(made.dataset, off).layer is None
    others = replace(
        off, warping=WarpingConfig(weight=1.0), smoothness=SmoothnessConfig(weight=1.0)
    )
    opened = open_terms(source.layer, framings_of(source, others), others)
    assert [type(term).__name__ for term in opened] == ["WarpingLoss", "Smoothness"]
