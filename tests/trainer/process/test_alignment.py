from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor

from trainer.process.alignment import aligned_noise, assignment, distances
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
    dealt = aligned_noise(clips(), 0, EVERYONE, EVERYONE, lambda own: own)
    plain = noise_like(clips(), 0, EVERYONE)
    assert not torch.equal(dealt, plain)
    assert sorted(row.sum().item() for row in dealt) == sorted(row.sum().item() for row in plain)
    torch.testing.assert_close(
        (clips() - dealt).flatten(1).norm(dim=1).double().sum(),
        torch.tensor(
            [
                distances(clips(), 0, EVERYONE)[row, column].item()
                for row, column in enumerate(assignment(distances(clips(), 0, EVERYONE).numpy()))
            ]
        )
        .double()
        .sum(),
    )


@pytest.mark.parametrize("ranks", [2, 3])
def test_any_number_of_ranks_deals_alike(ranks: int) -> None:
    whole = aligned_noise(clips(), 0, EVERYONE, EVERYONE, lambda own: own)
    every = [distances(clips()[rank::ranks], 0, EVERYONE) for rank in range(ranks)]
    together = torch.stack(every, dim=1).flatten(0, 1)
    for rank in range(ranks):
        mine = aligned_noise(
            clips()[rank::ranks], 0, EVERYONE[rank::ranks], EVERYONE, lambda own: together
        )
        assert torch.equal(mine, whole[rank::ranks])
