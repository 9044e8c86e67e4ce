"""Data-noise alignment (TPDiff, arXiv 2503.09566, algorithm 1; Immiscible Diffusion, 2406.12303).

The noises of a batch are dealt out anew so that clips and noises lie close in sum. The batch has
the same noises as before, but which one a clip gets depends on the clip: a network then sees less
crossing of paths. All clips of a batch are of one stage of the pyramid, so all have one shape.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from trainer.process.noise import noise_like
from trainer.process.process import Clips

Gather = Callable[[Tensor], Tensor]
"""[rows, n] of each rank to [ranks·rows, n], with rank r's rows at r, r + ranks, … of the batch."""


def aligned(
    clips: Clips, seed: int, positions: Sequence[int], everyone: Sequence[int], gather: Gather
) -> dict[int, int]:
    """Whose noise each of some clips of a global batch gets, by position, dealt out over all of it.

    Every rank makes every noise anew by position, and knows the distances of its own clips alone:
    only these numbers travel, and any number of ranks deals alike.

    Args:
        clips: of this rank.
        positions: of these clips.
        everyone: the positions of the global batch, in order.
        gather: the distances of all clips, in the order of `everyone`.
    """
    dealt = assignment(gather(distances(clips, seed, everyone)).cpu().numpy())
    return {position: everyone[dealt[everyone.index(position)]] for position in positions}


def distances(clips: Clips, seed: int, everyone: Sequence[int]) -> Float64[Tensor, "b n"]:
    """‖clip − noise‖ of each clip and each position's noise, one pair at a time.

    So a pair's distance does not depend on which others a rank has.
    """
    found = torch.empty(len(clips), len(everyone), dtype=torch.float64, device=clips.device)
    for column, position in enumerate(everyone):
        noise = noise_like(clips[:1], seed, [position])[0]
        for row, clip in enumerate(clips):
            found[row, column] = (clip - noise).square().sum(dtype=torch.float64).sqrt()
    return found


def assignment(costs: Float64[np.ndarray, "n n"]) -> Int64[np.ndarray, " n"]:
    """For each row the column that is its, all different, so that the costs have the least sum."""
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(costs)[1].astype(np.int64)
