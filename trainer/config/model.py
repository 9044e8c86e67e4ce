"""The network, and what it is told of each clip."""

from dataclasses import dataclass
from typing import Any

from trainer.config.rules import json_object, require


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The network: our space-time transformer, a video network of diffusers, or your own."""

    pretrained: str = ""
    """Folder or Hugging Face id of a network of diffusers to start from, or of a pipeline that
    holds one as `transformer`; unset: one of fresh weights."""
    family: str = ""
    """Class of a network of diffusers of fresh weights, as WanTransformer3DModel (docs/networks.md
    lists them), or your own as package.module:Class; unset: our transformer, whose size the
    following settings give."""
    arguments: str = ""
    """The arguments of that class, a JSON object; unset: its own, mostly billions of weights."""
    dim: int = 384
    """Channels of a token."""
    depth: int = 8
    """Blocks; each attends in space, then in time."""
    heads: int = 6
    """Attention heads."""
    patch: int = 8
    """Pixels on a side of the square that becomes a token; divides the clip's height and width.
    Places of a codec's latents count as pixels: 1 or 2 suits them."""
    window: int = 0
    """Slots before and after its own that a slot attends to in time; 0: all."""
    time_encoding: float = 1.0
    """Weight of the encoding of time beside that of place, which has 1."""
    checkpointing: bool = False
    """Keep of each block its input alone for the backward pass and compute the rest again: a third
    more work, a fraction of the memory, the same values."""
    compile: bool = False
    """Run each block of the network through torch.compile: a minute or more at the start, then
    fewer kernels."""

    def __post_init__(self) -> None:
        for name in ("dim", "depth", "heads", "patch"):
            value = getattr(self, name)
            require(value >= 1, f"model.{name} must be at least 1, got {value}")
        for name in ("window", "time_encoding"):
            value = getattr(self, name)
            require(value >= 0, f"model.{name} must not be negative, got {value}")
        require(
            self.dim % self.heads == 0 and self.dim % 4 == 0,
            f"model.dim must be a multiple of model.heads and of 4, got dim {self.dim} "
            f"with {self.heads} heads",
        )
        require(
            not (self.pretrained and self.family),
            f"model.pretrained {self.pretrained!r} brings its own class: drop model.family "
            f"{self.family!r}",
        )
        require(
            bool(self.family) or not self.arguments,
            f"model.arguments {self.arguments!r} belong to a model.family, and none is given",
        )
        require(
            self.ours or (self.window == 0 and self.time_encoding == 1),
            "model.window and model.time_encoding are of our transformer, not of "
            f"{self.pretrained or self.family}: drop them",
        )
        self.settings()

    @property
    def ours(self) -> bool:
        """Whether the network is our transformer."""
        return not (self.pretrained or self.family)

    def settings(self) -> dict[str, Any]:
        """The `arguments`."""
        return json_object(self.arguments, "model.arguments", '{"num_layers": 4}')


@dataclass(frozen=True, kw_only=True, slots=True)
class ConditioningConfig:
    """What the network is told of a clip: its caption or embeddings of it, its class, or nothing.

    Of text and embeddings at most one is set.
    """

    text: str = ""
    """Folder or Hugging Face id of the text encoder that reads captions, or of a pipeline that
    holds one; unset: none does."""
    embeddings: str = ""
    """Column of the index with embeddings made before, [d] or [l*d] numbers a clip; unset: none."""
    width: int = 0
    """Numbers in one state of `embeddings`; their d."""
    length: int = 128
    """States that a clip's text has room for; longer ones are cut, shorter filled up with zeros."""
    labels: str = ""
    """Column of the index with class numbers from 0; unset: no classes."""
    classes: int = 0
    """How many classes there are."""
    dropout: float = 0.1
    """Share of clips that are shown as if they had no text and no class, so that guidance works."""
    cache_mib: int = 1024
    """Memory for states of captions seen before, which are not computed again."""

    def __post_init__(self) -> None:
        require(
            not (self.text and self.embeddings),
            f"conditioning.text {self.text!r} and conditioning.embeddings {self.embeddings!r} "
            "exclude each other: drop one",
        )
        for column, count in (("embeddings", "width"), ("labels", "classes")):
            name, value = getattr(self, column), getattr(self, count)
            require(
                value >= 0 and bool(name) == bool(value),
                f"conditioning.{column} and conditioning.{count} go together, got {name!r} and "
                f"{value}",
            )
        require(self.length >= 1, f"conditioning.length must be at least 1, got {self.length}")
        require(
            0 <= self.dropout <= 1, f"conditioning.dropout must be in [0, 1], got {self.dropout}"
        )
        require(
            self.cache_mib >= 0,
            f"conditioning.cache_mib must not be negative, got {self.cache_mib}",
        )
