import pytest
import torch

from flow_cache.estimators.variational.fusion import fuse
from flow_cache.estimators.variational.search import REACH, search

SIZE = (31, 42)


def shifted(dx: int, dy: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two views [1, 2, h, w] of one random picture, the second moved by (dx, dy)."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(1, 2, SIZE[0] + 40, SIZE[1] + 40, generator=generator)
    views = []
    for x, y in ((0, 0), (dx, dy)):
        views.append(picture[..., 20 - y : 20 - y + SIZE[0], 20 - x : 20 - x + SIZE[1]])
    return views[0], views[1]


@pytest.mark.parametrize("motion", [(0, 0), (3, -2), (REACH, -REACH), (-REACH, 1)])
def test_search_finds_a_whole_shift(motion: tuple[int, int]) -> None:
    found = search(*shifted(*motion))
    inner = found[..., REACH + 3 : -REACH - 3, REACH + 3 : -REACH - 3]
    assert (inner == torch.tensor(motion).view(1, 2, 1, 1)).all()


def test_fusion_takes_over_what_matches_better() -> None:
    first, second = (x[:, :1] for x in shifted(4, -3))
    truth = torch.tensor([4.0, -3.0]).view(1, 2, 1, 1)
    flow = torch.zeros(1, 2, *SIZE)
    flow[..., 16:] = 9.0
    flow[:, :, 14:17, 20:23] = truth  # one right spot spreads over REACH, twice in each direction
    spread = fuse(first, second, flow, searching=False)
    assert (spread == truth).all(1).sum() > 30
    everywhere = fuse(first, second, flow, searching=True)
    assert (everywhere == truth).all(1)[..., 8:-8, 8:-8].all()


def test_fusion_keeps_what_matches() -> None:
    first, second = (x[:, :1] for x in shifted(2, 1))
    flow = torch.tensor([2.0, 1.0]).view(1, 2, 1, 1).repeat(1, 1, *SIZE)
    assert torch.equal(
        fuse(first, second, flow, searching=True)[..., 8:-8, 8:-8], flow[..., 8:-8, 8:-8]
    )
