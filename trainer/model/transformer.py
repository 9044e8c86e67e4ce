"""A small space-time transformer that denoises clips of any length and size.

Shapes: b clips, t slots, n = (h/p)·(w/p) patches, d channels, l states of text.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from shards import UsageError
from trainer.config import ModelConfig
from trainer.model.context import Context
from trainer.process.pyramid import Clips, Levels, Times


class SpaceTimeTransformer(nn.Module):
    """Attention factorised into space and time, each slot conditioned on its own noise level
    (adaLN-zero as in DiT, frame by frame as in FVDM, arXiv 2410.03160).

    Positions are functions of patch coordinates and of time in frames of the full rate, not learned
    tables, so one model serves every stage of the temporal pyramid and every size. Its output
    starts as zero, where the preconditioned denoiser is c_skip·x. Text is attended to after time, a
    class is added to the condition.

    Attributes:
        per_slot: it takes each slot at its own noise level.

    Args:
        channels: of what is denoised: 3 for pixels, a codec's for latents.
        text: channels of a state of text; 0 builds no part for text.
        classes: how many there are; 0 builds no part for classes.
    """

    per_slot = True

    def __init__(
        self, config: ModelConfig, channels: int = 3, text: int = 0, classes: int = 0
    ) -> None:
        super().__init__()
        self.config = config
        pixels = channels * config.patch**2
        self.embed = nn.Linear(pixels, config.dim)
        self.condition = nn.Sequential(
            nn.Linear(config.dim, config.dim), nn.SiLU(), nn.Linear(config.dim, config.dim)
        )
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.head = nn.Linear(config.dim, pixels)
        self.head_modulation = _zero(nn.Linear(config.dim, 2 * config.dim))
        _zero(self.head)
        # Last, so that all other weights are drawn as without them.
        self.classes = nn.Embedding(classes + 1, config.dim) if classes else None
        self.text = Text(text, config.dim) if text else None
        for block in self.blocks if text else ():
            block.cross = CrossAttention(config.dim, config.heads)

    def forward(
        self, x: Clips, conditioning: Levels, time: Times, context: Context | None = None
    ) -> Clips:
        """The raw network output F.

        Args:
            x: h and w are multiples of the patch.
            conditioning: the noise level of each slot as a timestep, in a unit of which about a
                thousand span all levels.
            context: None tells of no clip anything.

        Raises:
            UsageError: the patch does not divide the clip's height and width.
            ValueError: the context tells what the model was not built for.
        """
        patch, dim = self.config.patch, self.config.dim
        rows, columns = _grid(x, patch)
        context = self._known(context)
        tokens = self.embed(patches(x, patch))
        tokens = tokens + _places(rows, columns, dim, x.device)
        tokens = tokens + self.config.time_encoding * waves(time.to(x.device), dim)[:, None]
        condition = self.condition(waves(conditioning, dim))
        if self.classes is not None:
            condition = condition + self.classes(self._class_rows(len(x), context))[:, None]
        condition = F.silu(condition)
        text = None if self.text is None else self.text(len(x), context)
        near = _band(x.shape[1], self.config.window, x.device)
        for block in self.blocks:
            if self.config.checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(block, tokens, condition, near, text, use_reentrant=False)
            else:
                tokens = block(tokens, condition, near, text)
        shift, scale = self.head_modulation(condition)[:, :, None].chunk(2, dim=-1)
        return pixels(self.head(_modulate(tokens, shift, scale)), patch, rows)

    def _known(self, context: Context | None) -> Context:
        """The context, all of which the model has a part for."""
        context = context or Context()
        for name, given, part in (
            ("text", context.states, self.text),
            ("classes", context.labels, self.classes),
        ):
            if given is not None and part is None:
                raise ValueError(f"the context has {name}, for which this model was not built")
        return context

    def _class_rows(self, count: int, context: Context) -> Int64[Tensor, " b"]:
        """Rows of the table of classes; the last stands for none."""
        assert self.classes is not None
        none = self.classes.num_embeddings - 1
        if context.labels is None:
            return torch.full((count,), none, device=self.classes.weight.device)
        return torch.where(context.labels < 0, none, context.labels)


class Text(nn.Module):
    """States of text as the model attends to them, behind a learned one that stands for none."""

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, dim)
        self.none = nn.Parameter(0.02 * torch.randn(dim))

    def forward(self, count: int, context: Context) -> tuple[Tensor, Tensor]:
        """[b, 1 + l, d], and where there is something to attend to, [b, 1, 1, 1 + l]."""
        none = self.none.expand(count, 1, -1)
        there = torch.ones(count, 1, dtype=torch.bool, device=none.device)
        if context.states is None or context.mask is None:
            return none, there[:, None, None]
        states = torch.cat([none, self.project(context.states)], dim=1)
        return states, torch.cat([there, context.mask], dim=1)[:, None, None]


class Block(nn.Module):
    """Space attention, time attention, MLP; each modulated, gated from zero, and added.

    Between time and MLP it may attend to text, from zero, too.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.dim
        self.modulation = _zero(nn.Linear(dim, 9 * dim))
        self.space = Attention(dim, config.heads)
        self.time = Attention(dim, config.heads)
        self.mlp = nn.Sequential(
            nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, dim)
        )
        self.cross: CrossAttention | None = None

    def forward(
        self,
        tokens: Tensor,
        condition: Tensor,
        near: Tensor | None = None,
        text: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """tokens [b, t, n, d], condition [b, t, d], near [t, t]: which slots see which."""
        parts = self.modulation(condition)[:, :, None].chunk(9, dim=-1)
        shift, scale, gate = parts[0:3], parts[3:6], parts[6:9]
        tokens = tokens + gate[0] * self.space(_modulate(tokens, shift[0], scale[0]))
        across = _modulate(tokens, shift[1], scale[1]).transpose(1, 2)
        tokens = tokens + gate[1] * self.time(across, near).transpose(1, 2)
        if self.cross is not None and text is not None:
            tokens = tokens + self.cross(F.layer_norm(tokens, tokens.shape[-1:]), *text)
        return tokens + gate[2] * self.mlp(_modulate(tokens, shift[2], scale[2]))


class Attention(nn.Module):
    """Self-attention along the last axis but one, with normalised queries and keys."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, near: Tensor | None = None) -> Tensor:
        """x [b, m, l, d]: attends among the l tokens of each of the b·m groups, where near [l, l]
        is True."""
        qkv = self.qkv(x).flatten(0, 1).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.transpose(1, 3).unbind(2)  # [b·m, heads, l, d/heads]
        q, k = (F.rms_norm(part, part.shape[-1:]) for part in (q, k))
        y = F.scaled_dot_product_attention(q, k, v, near)
        return self.out(y.transpose(1, 2).flatten(-2)).view_as(x)


class CrossAttention(nn.Module):
    """Attention of a clip's tokens to its text, with normalised queries and keys; starts as zero.

    The text is not modulated: what it says does not depend on the noise level.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = _zero(nn.Linear(dim, dim))

    def forward(self, x: Tensor, text: Tensor, there: Tensor) -> Tensor:
        """x [b, t, n, d], text [b, l, d], there [b, 1, 1, l]: what may be attended to."""
        q = self.query(x).flatten(1, 2).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.key_value(text).unflatten(-1, (2, self.heads, -1)).transpose(1, 3).unbind(2)
        q, k = (F.rms_norm(part, part.shape[-1:]) for part in (q, k))
        y = F.scaled_dot_product_attention(q, k, v, there)
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


def _grid(x: Tensor, patch: int) -> tuple[int, int]:
    """Rows and columns of patches."""
    *_, height, width = x.shape
    rows, columns = height // patch, width // patch
    if (rows * patch, columns * patch) != (height, width):
        raise UsageError(
            f"clip size {height}x{width} is no multiple of the patch {patch}; "
            "choose another model.patch or build the dataset at another size"
        )
    return rows, columns


def _band(slots: int, window: int, device: torch.device) -> Bool[Tensor, "t t"] | None:
    """Which slots attend to which: those at most `window` apart; None: all to all."""
    if window == 0 or window >= slots - 1:
        return None
    slot = torch.arange(slots, device=device)
    return (slot[:, None] - slot).abs() <= window


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
