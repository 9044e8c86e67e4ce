"""Bicubic sampling whose gradient adds up in one order, where `torch` asks for that.

Its forward pass is `grid_sample`'s. That one's backward pass adds atomically on a GPU, in whatever
order threads come by, and is refused under `torch.use_deterministic_algorithms`; `scatter_add_`
has an ordered form there.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

SHARPNESS = -0.75  # Keys' parameter as torch has it (IEEE ASSP 29, 1981)


def bicubic(
    image: Float[Tensor, "n c h w"], grid: Float[Tensor, "n out_h out_w 2"]
) -> Float[Tensor, "n c out_h out_w"]:
    """The image at the places of `grid_sample`, corners aligned, borders repeated.

    Differentiable in the image alone.
    """
    sampled: Tensor = _Bicubic.apply(image, grid)
    return sampled


class _Bicubic(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.size = image.shape[-2:]
        return F.grid_sample(image, grid, "bicubic", padding_mode="border", align_corners=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (grid,) = ctx.saved_tensors
        h, w = ctx.size
        columns, across = _taps(grid[..., 0], w)
        rows, down = _taps(grid[..., 1], h)
        place = (rows[:, :, None] * w + columns[:, None]).flatten(1)  # of 4 x 4 pixels
        weight = (down[:, :, None] * across[:, None]).flatten(1, 2)
        shares = (grad[:, :, None] * weight[:, None]).flatten(2)
        image = grad.new_zeros(*grad.shape[:2], h * w)
        image.scatter_add_(2, place[:, None].expand_as(shares), shares)
        return image.unflatten(2, (h, w)), None


def _taps(
    places: Float[Tensor, "n h w"], side: int
) -> tuple[Int64[Tensor, "n 4 h w"], Float[Tensor, "n 4 h w"]]:
    """The four pixels along an axis that a place in [-1, 1] is interpolated from; their weights."""
    pixel = (places + 1) * ((side - 1) / 2)
    before = pixel.floor()
    t, a = pixel - before, SHARPNESS
    distances = torch.stack([t + 1, t, 1 - t, 2 - t], 1)
    near = ((a + 2) * distances - (a + 3)) * distances * distances + 1
    far = ((a * distances - 5 * a) * distances + 8 * a) * distances - 4 * a
    weights = torch.where(distances <= 1, near, far)
    offsets = torch.arange(-1, 3, device=places.device).view(1, 4, 1, 1)
    return (before[:, None].long() + offsets).clamp(0, side - 1), weights
