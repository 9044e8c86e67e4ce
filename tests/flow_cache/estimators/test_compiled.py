import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from flow_cache.estimators.compiled import compiled

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(("pairs", "solved"), [(0, 0), (1, 1), (3, 4), (4, 4), (5, 8)])
def test_pairs_are_filled_up_with_still_ones(
    pairs: int, solved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that few numbers of pairs are ever compiled; what was filled up does not come back."""
    seen = []

    def pair(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        seen.append((len(first), bool(first[pairs:].any())))
        return (second - first)[:, :2]

    def as_it_is(function: Any, **settings: Any) -> Any:
        assert settings["fullgraph"]
        return function

    monkeypatch.setattr(torch, "compile", as_it_is)
    first, second = torch.rand(2, pairs, 3, 8, 8)
    assert torch.equal(compiled(pair)(first, second), (second - first)[:, :2])
    assert seen == [(solved, False)]


TRACED = """
import torch
from flow_cache.estimators import load_estimator
from flow_cache.estimators.compiled import compiled

pair = load_estimator("variational").pair
first = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
first = torch.nn.functional.avg_pool2d(first, 5, 1, 2).requires_grad_()
second = first.detach().roll(1, -1)
expected = pair(first, second)
(wanted,) = torch.autograd.grad(expected.square().mean(), first)
flow = compiled(pair, backend="eager")(first, second)
(found,) = torch.autograd.grad(flow.square().mean(), first)
torch.testing.assert_close(flow, expected, atol=0.02, rtol=0)
torch.testing.assert_close(found, wanted, atol=0.1 * float(wanted.abs().max()), rtol=0)
"""


@pytest.mark.drill
def test_variational_is_one_graph_and_nearly_the_same_flow() -> None:
    """Traced and run operation by operation: what a GPU's compiler makes of it is its own.

    In a process whose functions nothing wraps: torch cannot trace what checks our shapes.
    """
    subprocess.run([sys.executable, "-c", TRACED], check=True, cwd=ROOT)
