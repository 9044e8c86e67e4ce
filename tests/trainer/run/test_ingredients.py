from dataclasses import dataclass, field, replace
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from trainer.codec.pixels import Pixels
from trainer.config import (
    FlowLossConfig,
    ProcessConfig,
    SmoothnessConfig,
    TrainConfig,
    WarpingConfig,
)
from trainer.run.ingredients import choose_source, deal_noise, in_precision, open_terms
from trainer.run.ranks import place
from trainer.spatial.framing import Framing
from trainer.stream.engine import Stream
from trainer.stream.source import Source
from trainer.temporal.recipe import PlainRecipe, TrainRecipe

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


@dataclass(frozen=True)
class Counting(Pixels):
    """Remembers how many clips each call encoded."""

    calls: list[int] = field(default_factory=list)

    def encode(self, frames: Tensor) -> Tensor:
        self.calls.append(len(frames))
        return super().encode(frames)


@pytest.mark.parametrize(("align", "asked"), [(True, [1, 1]), (False, [])])
def test_noise_is_dealt_by_what_training_encodes_anyway(
    made, config: TrainConfig, align: bool, asked: list[int]
) -> None:
    config = replace(config, process=ProcessConfig(align=align))
    stream = Stream(made.dataset, config.stream, TrainRecipe(config), seed=0)
    codec, parts = Counting(), stream[0].split(1) + stream[1].split(1)
    noises, encoded = deal_noise(parts, codec, config, place(config, {}))
    assert (sorted(noises), sorted(noises.values())) == ([0, 1], [0, 1])
    assert codec.calls == asked
    for part, clips in zip(parts, encoded, strict=True):
        assert (clips is None) != align
        assert clips is None or torch.equal(clips, part.clean())


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
