"""A small convolutional denoiser, for evidence that a CPU can make in minutes.

A transformer of the same price has to learn from clips what a convolution begins with: that
neighbours belong together. After two minutes this one draws whole sprites, and that one does not.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.model.transformer import waves

_SPACE, _SHRINK = (1, 3, 3), (1, 4, 4)


class SpriteNet(nn.Module):
    """Convolutions in space and in time at a quarter of the size, between two at full size.

    Each block is told every slot's level, and how far apart in time slots are, by a scale and a
    shift of its channels.
    """

    per_slot = True

    def __init__(
        self, fine: int = 8, dim: int = 48, depth: int = 6, reach: int = 7, told: int = 64
    ) -> None:
        super().__init__()
        self.told = told
        self.condition = nn.Sequential(
            nn.Linear(2 * told, told), nn.SiLU(), nn.Linear(told, told), nn.SiLU()
        )
        self.first = nn.Conv3d(3, fine, _SPACE, padding="same")
        self.shrink = nn.Conv3d(fine, dim, _SHRINK, _SHRINK)
        self.blocks = nn.ModuleList(Block(dim, told, reach) for _ in range(depth))
        self.grow = nn.ConvTranspose3d(dim, fine, _SHRINK, _SHRINK)
        self.last = Block(fine, told, 1)
        self.head = nn.Conv3d(fine, 3, _SPACE, padding="same")
        nn.init.zeros_(self.head.weight)

    def forward(self, x: Tensor, conditioning: Tensor, time: Tensor, _: object = None) -> Tensor:
        """F of x [b, t, 3, h, w], conditioning [b, t], time [t] in stored frames."""
        apart = (time[-1] - time[0]) / max(len(time) - 1, 1)
        known = waves(conditioning, self.told), waves(apart.expand_as(conditioning), self.told)
        condition = self.condition(torch.cat(known, dim=-1))
        fine = self.first(x.transpose(1, 2))
        coarse = self.shrink(fine)
        for block in self.blocks:
            coarse = block(coarse, condition)
        fine = self.last(fine + self.grow(coarse), condition)
        return self.head(F.silu(fine)).transpose(1, 2)


class Block(nn.Module):
    """A convolution in space, one in time over `reach` slots, one in space; added."""

    def __init__(self, dim: int, told: int, reach: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, dim)
        self.film = nn.Linear(told, 2 * dim)
        self.inside = nn.Conv3d(dim, dim, _SPACE, padding="same")
        self.across = nn.Conv2d(dim, dim, (reach, 1), padding="same") if reach > 1 else None
        self.out = nn.Conv3d(dim, dim, _SPACE, padding="same")
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x [b, c, t, h, w], condition [b, t, d]."""
        scale, shift = self.film(condition).transpose(1, 2)[..., None, None].chunk(2, dim=1)
        y = F.silu(self.inside(self.norm(x) * (1 + scale) + shift))
        if self.across is not None:
            y = y + self.across(y.flatten(3)).view_as(y)
        return x + self.out(F.silu(y))
