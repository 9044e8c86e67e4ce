"""Guidance: both answers of one call, weighed; nothing of the sort at scale 1."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from shards import UsageError
from trainer.model.context import Context
from trainer.sample.guidance import guided, with_none


@dataclass
class Network:
    """Its answer is the clip plus what the conditions say."""

    calls: list[int] = field(default_factory=list)

    def __call__(self, x: Tensor, conditioning: Tensor, time: Tensor, context: Any) -> Tensor:
        self.calls.append(len(x))
        assert context is not None
        said = (context.states * context.mask[..., None]).sum((1, 2))
        return x + said[:, None, None, None, None] + conditioning[:, :, None, None, None]


def test_the_difference_that_conditions_make_is_scaled() -> None:
    network, x = Network(), torch.randn(2, 3, 1, 2, 2)
    context = Context(states=torch.ones(2, 4, 5), mask=torch.ones(2, 4, dtype=torch.bool))
    levels, time = torch.randn(2, 3), torch.arange(3.0)
    plain = x + levels[:, :, None, None, None]
    torch.testing.assert_close(guided(network, 3.0)(x, levels, time, context), plain + 60)
    torch.testing.assert_close(guided(network, 0.0)(x, levels, time, context), plain)
    assert network.calls == [4, 4]
    assert guided(network, 1.0) is network


def test_no_condition_is_an_empty_text_and_no_class() -> None:
    mask = torch.tensor([[True, False]])
    found = with_none(Context(states=torch.ones(1, 2, 3), mask=mask, labels=torch.tensor([7])))
    assert found.mask is not None
    assert found.states is not None
    assert found.labels is not None
    assert found.mask.tolist() == [[True, False], [False, False]]
    assert torch.equal(found.states[0], torch.ones(2, 3))
    assert not found.states[1].any()
    assert found.labels.tolist() == [7, -1]
    assert with_none(Context(labels=torch.tensor([7]))).states is None


def test_guidance_to_nothing_is_refused() -> None:
    network = guided(Network(), 2.0)
    with pytest.raises(UsageError, match=r"guidance 2\.0 has nothing to guide to"):
        network(torch.zeros(1, 1, 1, 1, 1), torch.zeros(1, 1), torch.zeros(1), None)
