import torch
from torch import Tensor

from flow_cache.estimators.variational.fusion import fuse


def picture(seed: int = 0) -> Tensor:
    """[1, 1, 40, 56]: blurred noise, about 0.2 of contrast."""
    noise = torch.rand(1, 1, 44, 60, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.avg_pool2d(noise, 5, 1)


def test_true_flow_stays_where_it_is() -> None:
    first = picture()
    second = first.roll(3, -1)
    flow = torch.zeros(1, 2, 40, 56)
    flow[:, 0] = 3
    fused = fuse(first, second, flow, (4, 2), searching=False)
    assert fused[..., 6:-6, 6:-6].sub(flow[..., 6:-6, 6:-6]).eq(0).all()


def test_pixels_take_over_the_motion_of_pixels_some_way_off() -> None:
    """A wrong patch in true flow is smaller after, and nothing right is lost."""
    first = picture()
    second = first.roll(3, -1)
    flow = torch.zeros(1, 2, 40, 56)
    flow[:, 0] = 3
    wrong = flow.clone()
    wrong[..., 16:22, 24:30] = -4
    fused = fuse(first, second, wrong, (4, 2), searching=False)
    assert (fused - flow)[..., 6:-6, 6:-6].abs().max() < 0.5


def test_still_pixels_find_rest_by_themselves() -> None:
    first = picture()
    wrong = torch.full((1, 2, 40, 56), 2.5)
    fused = fuse(first, first, wrong, (4, 2), searching=False)
    assert fused[..., 6:-6, 6:-6].eq(0).all()


def test_only_a_search_finds_motion_that_no_candidate_has() -> None:
    first = picture()
    second = first.roll((-2, 5), (-2, -1))
    start = torch.zeros(1, 2, 40, 56)
    without, found = (fuse(first, second, start, (4, 2), searching=on) for on in (False, True))
    inner = found[0, :, 10:-10, 10:-10].flatten(1).median(-1).values
    assert inner.tolist() == [5, -2]
    assert without.eq(0).all()
