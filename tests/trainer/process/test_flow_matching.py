import math

import pytest
import torch

from trainer.process.flow_matching import FlowMatching
from trainer.process.laws import Uniform

FLOW = FlowMatching(Uniform())


@pytest.mark.parametrize("t", [0.0, 0.001, 1 / 3, 0.9, 1.0])
def test_it_is_a_straight_line_in_t(t: float) -> None:
    level = math.inf if t == 1 else t / (1 - t)
    at = FLOW.coefficients(torch.tensor([[level]], dtype=torch.float64))
    assert (at.gamma.item(), at.sigma.item()) == pytest.approx((1 - t, t))
    assert at.conditioning.item() == pytest.approx(1000 * t)
    clean, noise = 0.3, -1.7
    x, velocity = (1 - t) * clean + t * noise, noise - clean
    assert at.skip.item() * x + at.out.item() * velocity == pytest.approx(clean)


def test_its_loss_is_that_of_the_velocity() -> None:
    """(q − target)²/out² with q = x − t·v."""
    at = FLOW.coefficients(torch.tensor([[0.25, 4.0]], dtype=torch.float64))
    t = torch.tensor([[0.2, 0.8]], dtype=torch.float64)
    torch.testing.assert_close(1 / at.out**2, 1 / t**2)
