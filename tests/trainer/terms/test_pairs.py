from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from tests.trainer.terms.clips import still
from trainer.terms.pairs import pair_levels, take


def numbered(samples: int, slots: int) -> Tensor:
    """Frames whose pixels say the sample and the slot: 10·sample + slot."""
    number = 10 * torch.arange(samples)[:, None] + torch.arange(slots)
    return number[:, :, None, None, None].expand(-1, -1, 3, 8, 8).float()


def test_a_pair_has_the_larger_of_its_two_levels() -> None:
    _, targets = still(2, 2)
    targets = replace(targets, rows=torch.tensor([2, 0]))
    levels = torch.tensor([[0.1, 0.2, 0.3], [9, 9, 9], [0.6, 0.4, 0.5]])
    assert torch.equal(pair_levels(levels, targets), torch.tensor([[0.6, 0.5], [0.2, 0.3]]))


def test_pairs_come_with_their_frames_and_what_is_stored_of_them() -> None:
    _, targets = still(2, 2)
    targets = replace(
        targets,
        rows=torch.tensor([1, 3]),  # of four samples
        slots=torch.tensor([[[2, 0], [0, 1]], [[0, 1], [1, 2]]]),
        hops=torch.tensor([[1, 2], [0, 3]]),
        flow=torch.arange(4.0).view(2, 2, 1, 1, 1).expand(-1, -1, 2, 8, 8),
    )
    asked: list[Sequence[int]] = []

    def show(rows: Sequence[int]) -> Tensor:
        asked.append(rows)
        return numbered(4, 3)[list(rows)]

    pairs = take(torch.tensor([[True, True], [True, True]]), targets, show)
    assert pairs is not None
    assert asked == [[1, 3]]
    assert pairs.slots.tolist() == [[1, 2, 0], [1, 0, 1], [3, 1, 2]]
    assert pairs.first[:, 0, 0, 0].tolist() == [12, 10, 31]
    assert pairs.second[:, 0, 0, 0].tolist() == [10, 11, 32]
    assert pairs.flow[:, 0, 0, 0].tolist() == [0, 1, 3]
    assert pairs.hops.tolist() == [1, 2, 3]
    assert (pairs.sample.tolist(), pairs.pair.tolist()) == ([0, 0, 1], [0, 1, 1])

    only_second = take(torch.tensor([[False, False], [True, True]]), targets, show)
    assert only_second is not None
    assert asked[1:] == [[3]], "samples that are not looked at are not shown"
    assert only_second.first[:, 0, 0, 0].tolist() == [31]
    assert take(torch.zeros(2, 2, dtype=torch.bool), targets, show) is None
    assert take(torch.tensor([[False, False], [True, False]]), targets, show) is None
    assert len(asked) == 2
