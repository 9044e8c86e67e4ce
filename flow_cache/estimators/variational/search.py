"""Exhaustive block matching at a coarse pyramid level, for motion that coarser levels cannot see.

Small fast objects vanish in coarse images, and their motion is then too large for the finer ones.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from flow_cache.field import Flow

REACH = 8  # pixels each way
LIMIT = 0.15  # of one pixel's difference: what is hidden must not decide


@torch.no_grad()
def search(a: Flow, b: Flow) -> Flow:
    """Best whole-pixel motion of two features within REACH.

    By absolute differences over every second pixel of a 5x5 window, where a pixel outside the
    frame differs by LIMIT.
    """
    h, w = a.shape[-2:]
    half_h, half_w = (h + 1) // 2, (w + 1) // 2
    sparse = a[..., ::2, ::2].unsqueeze(3)
    # Outside b lies a value that differs from any feature by more than LIMIT.
    padded = F.pad(b, (REACH, REACH + w % 2, REACH, REACH + h % 2), value=1e3)
    reach = 2 * REACH + 1
    cost = a.new_empty(len(a), reach, reach, half_h, half_w)
    for odd in (0, 1):  # shifts along x of equal parity are windows on one strided row
        for y in range(reach):
            rows = padded[..., y : y + 2 * half_h : 2, odd::2]
            shifted = rows.unfold(-1, half_w, 1)[..., : REACH + 1 - odd, :]
            difference = (sparse - shifted).abs_().clamp_(max=LIMIT)
            total = difference[:, 0] + difference[:, 1]
            cost[:, y, odd::2] = _window(_window(total, 1), 3).transpose(1, 2)
    best = cost.flatten(1, 2).min(1).indices
    motion = torch.stack([best % reach - REACH, best // reach - REACH], 1).to(a.dtype)
    return F.interpolate(motion, scale_factor=2.0, mode="nearest")[..., :h, :w]


def _window(values: Tensor, dim: int) -> Tensor:
    """Sum of each value and its two neighbours along `dim`, where they exist."""
    total, n = values.clone(), values.shape[dim] - 1
    total.narrow(dim, 1, n).add_(values.narrow(dim, 0, n))
    total.narrow(dim, 0, n).add_(values.narrow(dim, 1, n))
    return total
