import pytest
import torch
from torch import Tensor

from flow_cache.estimators.variational.fusion import fuse
from flow_cache.estimators.variational.search import REACH, search

SIZE = (31, 42)
REACHES = (4, 2)


def shifted(dx: int, dy: int) -> tuple[Tensor, Tensor]:
    """Two views [1, 2, h, w] of one random picture, the second moved by (dx, dy)."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(1, 2, SIZE[0] + 40, SIZE[1] + 40, generator=generator)
    views = []
    for x, y in ((0, 0), (dx, dy)):
        views.append(picture[..., 20 - y : 20 - y + SIZE[0], 20 - x : 20 - x + SIZE[1]])
    return views[0], views[1]


@pytest.mark.parametrize("motion", [(0, 0), (3, -2), (REACH, -REACH), (-REACH, 1)])
def test_search_finds_a_whole_shift(motion: tuple[int, int]) -> None:
    found, believed = search(*shifted(*motion))
    inner = (..., slice(REACH + 3, -REACH - 3), slice(REACH + 3, -REACH - 3))
    assert (found[inner] == torch.tensor(motion).view(1, 2, 1, 1)).all()
    assert believed[inner].all()


def test_what_leaves_the_picture_is_not_believed() -> None:
    """Of pixels that move out of the frame; elsewhere nearly all matches are."""
    _, believed = search(*shifted(REACH, 0))
    assert believed[..., -REACH:].float().mean() < 0.2
    assert believed[..., 3 : -REACH - 3].float().mean() > 0.95


def test_what_is_hidden_is_not_believed() -> None:
    """A strip that slides over its neighbour: the covered pixels match nothing of their own."""
    first, _ = shifted(0, 0)
    second = first.clone()
    second[..., 22:30] = first[..., 16:24]  # columns 24 to 29 are covered
    _, believed = search(first, second)
    assert believed[..., 16:22].float().mean() > 0.9
    assert believed[..., 24:30].float().mean() < 0.4


def test_pictures_do_not_disturb_each_other() -> None:
    pairs = [shifted(3, -2), shifted(-5, 4), shifted(0, 0)]
    first, second = (torch.cat(pictures) for pictures in zip(*pairs, strict=True))
    together = search(first, second)
    for i, (a, b) in enumerate(pairs):
        for alone, batched in zip(search(a, b), together, strict=True):
            assert torch.equal(alone[0], batched[i])


def test_fusion_takes_over_what_matches_better() -> None:
    first, second = (x[:, :1] for x in shifted(4, -3))
    truth = torch.tensor([4.0, -3.0]).view(1, 2, 1, 1)
    flow = torch.zeros(1, 2, *SIZE)
    flow[..., 16:] = 9.0
    flow[:, :, 14:17, 20:23] = truth  # one right spot spreads over its reach, twice each way
    spread = fuse(first, second, flow, REACHES, searching=False)
    assert (spread == truth).all(1).sum() > 30
    everywhere = fuse(first, second, flow, REACHES, searching=True)
    assert (everywhere == truth).all(1)[..., 8:-8, 8:-8].all()


def test_fusion_keeps_what_matches() -> None:
    first, second = (x[:, :1] for x in shifted(2, 1))
    flow = torch.tensor([2.0, 1.0]).view(1, 2, 1, 1).repeat(1, 1, *SIZE)
    fused = fuse(first, second, flow, REACHES, searching=True)
    assert torch.equal(fused[..., 8:-8, 8:-8], flow[..., 8:-8, 8:-8])
