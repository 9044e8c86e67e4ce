"""A small space-time transformer that denoises clips of any length and size.

Shapes: b clips, t slots, n = (h/p)·(w/p) patches, d channels.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from shards import UsageError
from trainer.config import ModelConfig
from trainer.process.pyramid import Clips, Levels, Times


class SpaceTimeTransformer(nn.Module):
    """Attention factorised into space and time, each slot conditioned on its own noise level
    (adaLN-zero as in DiT, frame by frame as in FVDM, arXiv 2410.03160).

    Positions are functions of patch coordinates and of time in stored frames, not learned tables,
    so one model serves every stage of the temporal pyramid and every size. Its output starts as
    zero, where the preconditioned denoiser is c_skip·x.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        pixels = 3 * config.patch**2
        self.embed = nn.Linear(pixels, config.dim)
        self.condition = nn.Sequential(
            nn.Linear(config.dim, config.dim), nn.SiLU(), nn.Linear(config.dim, config.dim)
        )
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.head = nn.Linear(config.dim, pixels)
        self.head_modulation = _zero(nn.Linear(config.dim, 2 * config.dim))
        _zero(self.head)

    def forward(
        self, clip: Clips, conditioning: Levels, time: Times, context: None = None
    ) -> Clips:
        """The raw network output F.

        Args:
            clip: h and w are multiples of the patch.
            conditioning: the noise level of each slot, in units of about a thousand.

        Raises:
            UsageError: the patch does not divide the clip's height and width.
        """
        patch, dim = self.config.patch, self.config.dim
        *_, height, width = clip.shape
        rows, columns = height // patch, width // patch
        if (rows * patch, columns * patch) != (height, width):
            raise UsageError(
                f"clip size {height}x{width} is no multiple of the patch {patch}; "
                "choose another model.patch or build the dataset at another size"
            )
        tokens = self.embed(patches(clip, patch))
        tokens = tokens + _places(rows, columns, dim, clip.device)
        tokens = tokens + waves(time.to(clip.device), dim)[:, None]
        condition = F.silu(self.condition(waves(conditioning, dim)))
        for block in self.blocks:
            tokens = block(tokens, condition)
        shift, scale = self.head_modulation(condition)[:, :, None].chunk(2, dim=-1)
        return pixels(self.head(_modulate(tokens, shift, scale)), patch, rows)


class Block(nn.Module):
    """Space attention, time attention, MLP; each modulated, gated from zero, and added."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.dim
        self.modulation = _zero(nn.Linear(dim, 9 * dim))
        self.space = Attention(dim, config.heads)
        self.time = Attention(dim, config.heads)
        self.mlp = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, dim)
        )

    def forward(self, tokens: Tensor, condition: Tensor) -> Tensor:
        """tokens [b, t, n, d], condition [b, t, d]."""
        parts = self.modulation(condition)[:, :, None].chunk(9, dim=-1)
        shift, scale, gate = parts[0:3], parts[3:6], parts[6:9]
        tokens = tokens + gate[0] * self.space(_modulate(tokens, shift[0], scale[0]))
        across = _modulate(tokens, shift[1], scale[1]).transpose(1, 2)
        tokens = tokens + gate[1] * self.time(across).transpose(1, 2)
        return tokens + gate[2] * self.mlp(_modulate(tokens, shift[2], scale[2]))


class Attention(nn.Module):
    """Self-attention along the last axis but one, with normalised queries and keys."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """x [b, m, l, d]: attends among the l tokens of each of the b·m groups."""
        qkv = self.qkv(x).flatten(0, 1).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.transpose(1, 3).unbind(2)  # [b·m, heads, l, d/heads]
        q, k = (F.rms_norm(part, part.shape[-1:]) for part in (q, k))
        y = F.scaled_dot_product_attention(q, k, v)
        return self.out(y.transpose(1, 2).flatten(-2)).view_as(x)


def patches(clip: Float[Tensor, "b t c h w"], patch: int) -> Float[Tensor, "b t n d"]:
    """A clip as squares of p·p pixels, in reading order."""
    tiles = clip.unflatten(-2, (-1, patch)).unflatten(-1, (-1, patch))  # b t c rows p columns p
    return tiles.permute(0, 1, 3, 5, 4, 6, 2).flatten(4).flatten(2, 3)


def pixels(tokens: Float[Tensor, "b t n d"], patch: int, rows: int) -> Float[Tensor, "b t c h w"]:
    """The inverse of `patches`."""
    tiles = tokens.unflatten(2, (rows, -1)).unflatten(-1, (patch, patch, -1))
    return tiles.permute(0, 1, 6, 2, 4, 3, 5).flatten(5).flatten(3, 4)


def waves(position: Shaped[Tensor, "*shape"], dim: int) -> Float[Tensor, "*shape {dim}"]:
    """Sines and cosines of each position, of geometric wavelengths from 2π to 20000π."""
    exponents = torch.arange(dim // 2, device=position.device) / (dim // 2)
    angles = position.float()[..., None] * 10_000.0**-exponents
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def _places(rows: int, columns: int, dim: int, device: torch.device) -> Tensor:
    """Embedding of patch coordinates, half the channels for y and half for x; [n, dim]."""
    y = waves(torch.arange(rows, device=device), dim // 2)[:, None].expand(-1, columns, -1)
    x = waves(torch.arange(columns, device=device), dim // 2)[None].expand(rows, -1, -1)
    return torch.cat([y, x], dim=-1).flatten(0, 1)


def _modulate(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return F.layer_norm(tokens, tokens.shape[-1:]) * (1 + scale) + shift


def _zero(layer: nn.Linear) -> nn.Linear:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
