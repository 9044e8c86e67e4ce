import threading

import pytest
import torch

from flow_cache.estimators.variational.parallel import spread


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
