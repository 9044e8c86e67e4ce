import threading
from typing import Any

import pytest
import torch

from flow_cache.estimators.variational.parallel import spread, spread_with_gradient


@pytest.fixture
def three_threads() -> None:
    torch.set_num_threads(3)


def test_order_and_sizes_of_parts(three_threads: None) -> None:
    parts = spread(lambda x, y: (x + y).tolist(), torch.arange(7), torch.arange(7), largest=2)
    assert parts == [[0, 2], [4, 6], [8, 10], [12]]
    assert spread(len, torch.arange(7), largest=100) == [3, 3, 1]
    assert spread(len, torch.arange(0), largest=100) == []


def test_runs_beside_each_other_on_one_thread_each(three_threads: None) -> None:
    meeting = threading.Barrier(3, timeout=20)

    def meet(_: torch.Tensor) -> int:
        meeting.wait()
        return torch.get_num_threads()

    assert spread(meet, torch.arange(3), largest=1) == [1, 1, 1]
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("gradient", [True, False])
def test_gradient_switch_travels(three_threads: None, gradient: bool) -> None:
    values = torch.ones(3, requires_grad=True)
    with torch.set_grad_enabled(gradient):
        parts = spread(lambda x: 2 * x, values, largest=1)
    assert [part.requires_grad for part in parts] == [gradient] * 3
    if gradient:
        torch.cat(parts).sum().backward()
        assert values.grad is not None
        assert values.grad.eq(2).all()


def test_errors_arrive_and_thread_count_returns(three_threads: None) -> None:
    with pytest.raises(ZeroDivisionError):
        spread(lambda x: 1 // int(x[0]), torch.arange(3), largest=1)
    assert torch.get_num_threads() == 3


class Meeting(torch.autograd.Function):
    """Times two; forward and backward wait for two others, and note torch's threads in each."""

    barrier = threading.Barrier(3, timeout=20)
    threads: tuple[list[int], list[int]] = ([], [])

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        Meeting.barrier.wait()
        Meeting.threads[0].append(torch.get_num_threads())
        return 2 * values

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        Meeting.barrier.wait()
        Meeting.threads[1].append(torch.get_num_threads())
        return 2 * grad


def test_the_backward_pass_runs_beside_itself_on_one_thread_each(three_threads: None) -> None:
    """Else each of its small operations is shared, and waits for the slowest thread."""
    values = torch.arange(3.0, requires_grad=True)
    result = spread_with_gradient(Meeting.apply, values, largest=1)
    assert torch.equal(result, 2 * torch.arange(3.0))
    result.square().sum().backward(retain_graph=True)
    (again,) = torch.autograd.grad(result.square().sum(), values)
    assert Meeting.threads == ([1] * 3, [1] * 6)
    assert torch.get_num_threads() == 3
    assert values.grad is not None
    assert torch.equal(values.grad, 8 * torch.arange(3.0))
    assert torch.equal(again, values.grad)


def test_what_needs_no_gradient_gets_none(three_threads: None) -> None:
    values, held = torch.ones(4, requires_grad=True), torch.full((4,), 3.0)
    result = spread_with_gradient(torch.mul, held, values, largest=1)
    result.sum().backward()
    assert held.grad is None
    assert values.grad is not None
    assert values.grad.eq(3).all()
    assert not spread_with_gradient(torch.mul, held, held, largest=1).requires_grad
    with torch.no_grad():
        assert not spread_with_gradient(torch.mul, held, values, largest=1).requires_grad


def test_a_graph_goes_with_what_it_is_part_of(three_threads: None) -> None:
    values = torch.ones(4, requires_grad=True)
    loss = spread_with_gradient(torch.square, values, largest=1).sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()
