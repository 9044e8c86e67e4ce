from typing import Any

import pytest
import torch

from trainer.model.context import Context


def test_states_and_mask_go_together() -> None:
    with pytest.raises(ValueError, match="go together"):
        Context(states=torch.zeros(1, 2, 3))
    with pytest.raises(ValueError, match="go together"):
        Context(mask=torch.zeros(1, 2, dtype=torch.bool))


def test_all_of_it_moves() -> None:
    context: Any = Context(
        states=torch.zeros(1, 2, 3),
        mask=torch.zeros(1, 2, dtype=torch.bool),
        labels=torch.zeros(1, dtype=torch.int64),
    ).to(torch.device("meta"))
    assert [context.states.device.type, context.mask.device.type, context.labels.device.type] == [
        "meta"
    ] * 3
    assert Context().to(torch.device("meta")).states is None
