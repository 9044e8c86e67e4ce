import torch
import torch.nn.functional as F

from flow_cache.estimators.variational.adjoint import bicubic


def random(*shape: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, dtype=torch.float64, generator=generator)


def test_value_and_gradient_are_those_of_grid_sample() -> None:
    """Also at places outside the picture, and where a place is a pixel."""
    image = random(2, 3, 9, 12, seed=0).requires_grad_()
    grid = random(2, 7, 8, 2, seed=1) * 2.8 - 1.4
    grid[:, 0], grid[:, 1, :2] = -1, 1
    upstream = random(2, 3, 7, 8, seed=2)
    expected = F.grid_sample(image, grid, "bicubic", "border", align_corners=True)
    (wanted,) = torch.autograd.grad(expected, image, upstream)
    sampled = bicubic(image, grid)
    (found,) = torch.autograd.grad(sampled, image, upstream)
    assert torch.equal(sampled, expected)
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)
