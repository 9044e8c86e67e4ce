import pytest
import torch

from flow_cache.estimators.variational.constancy import DataTerm
from flow_cache.estimators.variational.relaxation import System, assemble, relax

SIZE = (5, 6)


@pytest.fixture
def system() -> System:
    """A random one in double precision, with strong and weak data."""
    generator = torch.Generator().manual_seed(0)
    random = torch.rand(5, 1, 1, *SIZE, dtype=torch.float64, generator=generator)
    x, y = random[:2] * 8
    weights = {"a11": x * x + 0.1, "a12": x * y, "a22": y * y + 0.1}
    flow = random[2:4, 0].transpose(0, 1).contiguous()
    pulls = {"pull_x": x.expand(-1, 3, -1, -1), "pull_y": y.expand(-1, 3, -1, -1)}
    return assemble(DataTerm(**pulls, **weights), flow)


def relaxed(system: System, right_side: torch.Tensor, sweeps: int) -> torch.Tensor:
    return relax(system, right_side, torch.zeros_like(right_side), sweeps)


def columns(system: System, sweeps: int) -> torch.Tensor:
    """The matrix that the sweeps apply to the right side."""
    unit = torch.eye(2 * SIZE[0] * SIZE[1], dtype=torch.float64).view(-1, 1, 2, *SIZE)
    return torch.stack([relaxed(system, one, sweeps).flatten() for one in unit])


def test_sweeps_are_symmetric(system: System) -> None:
    """What the cheap gradient rests on."""
    matrix = columns(system, 7)
    torch.testing.assert_close(matrix, matrix.T)


def test_converges_to_the_solution_from_anywhere(system: System) -> None:
    right_side = torch.rand(1, 2, *SIZE, dtype=torch.float64)
    solution = relaxed(system, right_side, 2000)
    again = relax(system, right_side, 5 * torch.ones_like(right_side), 2000)
    torch.testing.assert_close(solution, again)
    torch.testing.assert_close(relax(system, right_side, solution, 1), solution)


def test_acceleration_beats_plain_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a flat region, where the data hardly pull: twenty sweeps do the work of hundreds."""
    one = torch.ones(1, 1, 32, 32)
    pull = one.expand(-1, 3, -1, -1)
    data = DataTerm(pull_x=pull, pull_y=pull, a11=one, a12=0 * one, a22=one)
    system = assemble(data, torch.zeros(1, 2, 32, 32))
    right_side = torch.rand(1, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    solution = relaxed(system, right_side, 500)
    accelerated = (relaxed(system, right_side, 20) - solution).norm()
    monkeypatch.setattr("flow_cache.estimators.variational.relaxation.SPECTRAL_RADIUS", 0.0)
    assert accelerated < (relaxed(system, right_side, 100) - solution).norm()


def test_gradient(system: System) -> None:
    right_side = torch.rand(1, 2, *SIZE, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda b: relaxed(system, b, 6), right_side)
