"""Exhaustive block matching, for motion that coarser pyramid levels cannot see.

Small fast objects vanish in coarse images, and their motion is then too large for the finer ones.
What is hidden matches somewhere, too: of all who claim a place only the best match is believed.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from flow_cache.field import Flow

REACH = 7  # pixels each way
LIMIT = 0.15  # of one pixel's difference: what is hidden must not decide
PLACE = 2  # pixels of the second image that are one place to be claimed


@torch.no_grad()
def search(a: Flow, b: Flow) -> tuple[Flow, Bool[Tensor, "n 1 h w"]]:
    """Best whole-pixel motion of two features within REACH, and where to believe it.

    By absolute differences over every second pixel of a 5x5 window, where a pixel outside the
    frame differs by LIMIT. Believed are matches inside the frame whose place no better one claims.
    """
    h, w = a.shape[-2:]
    least, best = _match_cost(a, b).flatten(1, 2).min(1)
    reach = 2 * REACH + 1
    motion = torch.stack([best % reach - REACH, best // reach - REACH], 1)
    believed = _best_claims(least, motion, (h, w))
    found = torch.cat([motion, believed[:, None]], 1).to(a.dtype)
    found = F.interpolate(found, scale_factor=2.0, mode="nearest")[..., :h, :w]
    return found[:, :2], found[:, 2:] > 0


def _match_cost(a: Flow, b: Flow) -> Float[Tensor, "n reach reach half_h half_w"]:
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
            difference = (sparse - shifted).abs_()
            total = (difference[:, 0] + difference[:, 1]).clamp_(max=LIMIT)
            cost[:, y, odd::2] = _window(_window(total, 1), 3).transpose(1, 2)
    return cost


def _best_claims(
    cost: Float[Tensor, "n half_h half_w"],
    motion: Int64[Tensor, "n 2 half_h half_w"],
    size: tuple[int, int],
) -> Bool[Tensor, "n half_h half_w"]:
    """Where the motion of every second pixel ends in the frame, at a place that it matches best."""
    h, w = size
    _, half_h, half_w = cost.shape
    x = 2 * torch.arange(half_w, device=cost.device) + motion[:, 0]
    y = 2 * torch.arange(half_h, device=cost.device)[:, None] + motion[:, 1]
    inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
    columns = -(-w // PLACE)
    place = (y.clamp(0, h - 1) // PLACE * columns + x.clamp(0, w - 1) // PLACE).flatten(1)
    claim = cost.where(inside, torch.inf).flatten(1)
    least = torch.full_like(claim[:, :1], torch.inf).repeat(1, -(-h // PLACE) * columns)
    least = least.scatter_reduce(1, place, claim, "amin")
    return (claim <= least.gather(1, place)).view_as(inside) & inside


def _window(values: Tensor, dim: int) -> Tensor:
    """Sum of each value and its two neighbours along `dim`, where they exist."""
    total, n = values.clone(), values.shape[dim] - 1
    total.narrow(dim, 1, n).add_(values.narrow(dim, 0, n))
    total.narrow(dim, 0, n).add_(values.narrow(dim, 1, n))
    return total
