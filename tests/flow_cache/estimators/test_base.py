import pytest
import torch

from flow_cache.estimators.base import check_at_least, zero_if_still


@pytest.mark.parametrize("size", [(31, 64), (64, 31)])
def test_both_sides_have_to_be_large_enough(size: tuple[int, int]) -> None:
    check_at_least((32, 32), 32, "dis")
    with pytest.raises(ValueError, match=rf"{size[0]}x{size[1]} are too small for dis.* 32 pixels"):
        check_at_least(size, 32, "dis")


def test_only_equal_images_have_their_flow_removed_and_gradients_stay() -> None:
    first = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    second = first.clone()
    second[1, 2, 3, 4] += 1e-3  # one component of one pixel of the second pair
    flow = torch.full((2, 2, 4, 5), 0.25, requires_grad=True)
    kept = zero_if_still(flow, first, second)
    assert kept[0].eq(0).all()
    assert kept[1].eq(0.25).all()
    (gradient,) = torch.autograd.grad(kept.sum(), flow)
    assert gradient.eq(1).all()
