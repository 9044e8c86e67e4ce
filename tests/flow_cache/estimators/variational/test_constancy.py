import torch
from torch import Tensor

from flow_cache.estimators.variational.constancy import linearise, temporal_change


def waves(shift: float, width: int = 32) -> Tensor:
    """[1, 1, 24, width]: a smooth picture, moved to the right."""
    x = torch.arange(width) - shift
    y = torch.arange(24.0)[:, None]
    return (0.5 + 0.2 * torch.sin(x / 3) + 0.2 * torch.cos(y / 2 + x / 5)).view(1, 1, 24, width)


def update_of(first: Tensor, second: Tensor, outside: Tensor) -> Tensor:
    """[2, h, w]: the motion that the data term alone asks for at each pixel."""
    change = temporal_change(first, second)
    data = linearise(first, second, outside, change)
    matrix = torch.stack([data.a11, data.a12, data.a12, data.a22], -1).unflatten(-1, (2, 2))
    right = data.right_side(change).permute(0, 2, 3, 1).unsqueeze(1)
    return torch.linalg.lstsq(matrix, right.unsqueeze(-1)).solution[0, 0, ..., 0].permute(2, 0, 1)


def test_asks_for_the_motion_of_a_small_shift() -> None:
    first = waves(0)
    motion = update_of(first, waves(0.1), torch.zeros_like(first))[:, 4:-4, 4:-4]
    assert abs(motion[0].median().item() - 0.1) < 0.01
    assert abs(motion[1].median().item()) < 0.01


def test_equal_images_ask_for_none() -> None:
    first = waves(0)
    assert temporal_change(first, first).eq(0).all()
    data = linearise(first, first, torch.zeros_like(first), temporal_change(first, first))
    assert data.right_side(temporal_change(first, first)).eq(0).all()


def test_what_leaves_the_frame_has_no_say() -> None:
    first, second = waves(0), waves(0.5)
    outside = torch.zeros_like(first)
    outside[..., 20:] = 1
    change = temporal_change(first, second)
    data = linearise(first, second, outside, change)
    for part in (data.a11, data.a12, data.a22, data.right_side(change)):
        assert part[..., 20:].eq(0).all()
        assert part[..., :20].ne(0).any()


def test_outliers_weigh_less_than_their_residual() -> None:
    """Robust: ten times the change pulls less than twice as hard."""
    first = waves(0)
    inside = torch.zeros_like(first)
    pulls = []
    for change in (0.001, 0.01):
        residual = torch.full((1, 3, 24, 32), change)
        data = linearise(first, first, inside, residual)
        pulls.append(data.right_side(residual).abs().median())
    assert pulls[0] < pulls[1] < 2 * pulls[0]


def test_the_normal_matrix_is_positive() -> None:
    first, second = waves(0), waves(1)
    data = linearise(first, second, torch.zeros_like(first), temporal_change(first, second))
    assert (data.a11 >= 0).all()
    assert (data.a11 * data.a22 - data.a12 * data.a12 >= -1e-3 * data.a11 * data.a22).all()


def test_what_differs_by_many_pixels_loses_its_say() -> None:
    """Hidden, not moved: a hundred times the change pulls less than a tenth as hard."""
    first = waves(0)
    inside = torch.zeros_like(first)
    pulls = []
    for change in (0.2, 20.0):
        residual = torch.full((1, 3, 24, 32), change)
        data = linearise(first, first, inside, residual)
        pulls.append(data.right_side(residual).abs().median())
    assert pulls[1] < pulls[0] / 10
