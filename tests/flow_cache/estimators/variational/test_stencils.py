from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F

from benchmarks.flowloss import Kernels
from flow_cache.estimators.variational.stencils import (
    box,
    constants,
    double_flow,
    gradient,
    halve,
    lower_median,
    median,
    neighbours,
    sample,
    smooth,
)


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand(2, 2, 7, 9, generator=torch.Generator().manual_seed(0))


def test_neighbours(image: torch.Tensor) -> None:
    left, centre, right = neighbours(image, 1, -1)
    assert torch.equal(centre, image)
    assert torch.equal(left[..., 1:], image[..., :-1])
    assert torch.equal(right[..., -1], image[..., -1])


def test_median_is_that_of_nine(image: torch.Tensor) -> None:
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    windows = padded.unfold(-2, 3, 1).unfold(-2, 3, 1).flatten(-2)
    assert torch.equal(median(image), windows.median(-1).values)


def test_box_is_a_sum(image: torch.Tensor) -> None:
    expected = 25 * F.avg_pool2d(F.pad(image, (2, 2, 2, 2), mode="replicate"), 5, 1)
    torch.testing.assert_close(box(image, 2), expected)


def test_gradient_of_a_plane() -> None:
    y, x = torch.meshgrid(torch.arange(5.0), torch.arange(6.0), indexing="ij")
    dx, dy = gradient((3 * x - 2 * y)[None, None])
    assert (dx[..., 1:-1] == 6).all()
    assert (dy[..., 1:-1, :] == -4).all()


def test_smoothing_keeps_constants() -> None:
    constant = torch.full((1, 1, 5, 5), 0.7)
    torch.testing.assert_close(smooth(constant), constant)
    torch.testing.assert_close(halve(constant), constant[..., :3, :3])


@pytest.mark.parametrize("size", [(12, 14), (11, 13)])
def test_halving_and_doubling_share_one_geometry(size: tuple[int, int]) -> None:
    """Coarse pixel i lies between fine pixels 2i and 2i + 1, also where a side is odd."""
    y, x = torch.meshgrid(*(torch.arange(float(n)) for n in size), indexing="ij")
    coarse = halve(torch.stack([x, y])[None])
    assert coarse.shape[-2:] == ((size[0] + 1) // 2, (size[1] + 1) // 2)
    torch.testing.assert_close(coarse[0, 0, 1, 1:3], torch.tensor([2.5, 4.5]))
    torch.testing.assert_close(coarse[0, 1, 1:3, 1], torch.tensor([2.5, 4.5]))
    fine = double_flow(coarse, size)
    torch.testing.assert_close(fine[0, 0, 3:-3, 3:-3], 2 * x[3:-3, 3:-3])


def test_sample(image: torch.Tensor) -> None:
    flow = torch.zeros(2, 2, 7, 9)
    flow[:, 0], flow[:, 1] = 2, -1
    sampled, outside = sample(image, flow, "bilinear")
    torch.testing.assert_close(sampled[..., 1:, :-2], image[..., :-1, 2:])
    assert outside[..., 1:, :-2].eq(0).all()
    assert outside[..., 0, :].eq(1).all()
    assert outside[..., -2:].eq(1).all()
    assert sample(image, torch.zeros_like(flow), "bicubic")[1].eq(0).all()


@pytest.fixture
def deterministic() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def counted(device: str) -> set[str]:
    """Names of the operations of a bicubic sample, its gradient and a median."""
    image = torch.zeros(2, 1, 7, 9, device=device, requires_grad=True)
    with Kernels() as kernels:
        sampled, _ = sample(image, torch.zeros(2, 2, 7, 9, device=device), "bicubic")
        sampled.sum().backward()
        lower_median(image.detach())
    return {*kernels.counts}


REFUSED = {"grid_sampler_2d_backward", "median"}  # by CUDA, where algorithms must be deterministic


def test_an_accelerator_does_in_order_what_it_is_asked_to(deterministic: None) -> None:
    """On shapes alone: no GPU is needed to see which operations it would be given."""
    assert not REFUSED & counted("meta")
    assert counted("cpu") >= REFUSED, "a CPU has one order, and these are faster"


def test_medians_are_the_lower_ones(deterministic: None) -> None:
    values = torch.tensor([[4.0, 1, 3, 2], [1, 1, 5, 9]])
    assert lower_median(values).tolist() == [2, 1]
    assert lower_median(values.to("meta")).shape == (2,)


def test_constants_of_inference_serve_gradients_later() -> None:
    with torch.inference_mode():
        constant = constants((0.25, 4.5), torch.device("cpu"), torch.float32)
    values = torch.ones(1, 2, 1, 1, requires_grad=True)
    (values * constant).sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad, constant)
    assert constants((0.25, 4.5), torch.device("cpu"), torch.float32) is constant
