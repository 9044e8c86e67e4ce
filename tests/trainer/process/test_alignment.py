from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor

from trainer.process.alignment import aligned, assignment, distances
from trainer.process.noise import noise_like

EVERYONE = [40, 41, 42, 43, 44, 45]


def clips() -> Tensor:
    return torch.randn(6, 2, 1, 3, 3, generator=torch.Generator().manual_seed(1))


def test_clip_i_gets_the_noise_of_its_column() -> None:
    """ε' = ε[col]: with the inverse permutation, the wrong version, this assignment costs 27."""
    costs = np.array([[9.0, 1, 9], [9, 9, 1], [1, 9, 9]])
    assert assignment(costs).tolist() == [1, 2, 0]


def test_it_is_the_least_sum_of_all_orders() -> None:
    costs = distances(clips(), 0, EVERYONE).numpy()
    rows = np.arange(6)
    least = min(costs[rows, list(order)].sum() for order in permutations(range(6)))
    assert costs[rows, assignment(costs)].sum() == pytest.approx(least)
    assert least < costs[rows, rows].sum()


def test_the_noises_of_the_batch_are_dealt_out_each_once() -> None:
    dealt = aligned(clips(), 0, EVERYONE, EVERYONE, lambda own: own)
    assert list(dealt) == EVERYONE
    assert sorted(dealt.values()) == EVERYONE
    assert list(dealt.values()) != EVERYONE
    noise = noise_like(clips(), 0, list(dealt.values()))
    sums = (clips() - noise).flatten(1).norm(dim=1).sum()
    assert sums < (clips() - noise_like(clips(), 0, EVERYONE)).flatten(1).norm(dim=1).sum()


@pytest.mark.parametrize("ranks", [2, 3])
def test_any_number_of_ranks_deals_alike(ranks: int) -> None:
    whole = aligned(clips(), 0, EVERYONE, EVERYONE, lambda own: own)
    every = [distances(clips()[rank::ranks], 0, EVERYONE) for rank in range(ranks)]
    together = torch.stack(every, dim=1).flatten(0, 1)
    for rank in range(ranks):
        own = EVERYONE[rank::ranks]
        mine = aligned(clips()[rank::ranks], 0, own, EVERYONE, lambda _: together)
        assert mine == {position: whole[position] for position in own}
