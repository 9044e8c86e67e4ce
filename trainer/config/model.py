"""The network, and what it is told of each clip."""

from dataclasses import dataclass

from trainer.config.rules import require


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The network: our space-time transformer, or a video network of diffusers."""

    network: str = "transformer"
    """`transformer`, or a class of diffusers as WanTransformer3DModel, whose size is in `settings`;
    docs/networks.md lists them."""
    pretrained: str = ""
    """Folder or Hugging Face id of a diffusers network to start from, or of a pipeline that holds
    one; it decides class and size."""
    settings: str = ""
    """Size of a fresh diffusers network, as JSON: {"num_layers": 4, ...}; unset: the class's own,
    mostly billions of weights."""
    dim: int = 384
    """Channels of a token."""
    depth: int = 8
    """Blocks; each attends in space, then in time."""
    heads: int = 6
    """Attention heads."""
    patch: int = 8
    """Pixels on a side of the square that becomes a token; divides the clip's height and width.
    Latents of a codec count as pixels: 1 or 2 suits them."""
    window: int = 0
    """Slots before and after its own that a slot attends to in time; 0: all."""
    time_encoding: float = 1.0
    """Weight of the time encoding beside that of place, which has 1."""
    checkpointing: bool = False
    """Keep a block's input alone for the backward pass and compute the rest again: a third more
    work, a fraction of the memory, the same values."""
    compile: bool = False
    """Run the network through torch.compile: minutes at the start, then fewer kernels."""

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
        ours = self.network == "transformer"
        require(
            not (ours and self.settings),
            "model.settings is for networks of diffusers; that of the transformer are model.dim, "
            f"depth, heads and patch: drop it or name model.network, got {self.settings}",
        )
        require(
            ours or not self.pretrained,
            f"model.pretrained {self.pretrained} brings its own class: drop model.network "
            f"{self.network}",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ConditioningConfig:
    """What the network is told of a clip: its caption or embeddings of it, its class, or nothing.

    Of text and embeddings at most one is set.
    """

    text: str = ""
    """Folder or Hugging Face id of the text encoder that reads captions; unset: none does."""
    embeddings: str = ""
    """Column of the index with embeddings made before, [d] or [l*d] numbers a clip; unset: none."""
    width: int = 0
    """Numbers in one state of `embeddings`; their d."""
    length: int = 128
    """States a clip's text has room for; longer captions are cut, shorter filled up with zeros."""
    labels: str = ""
    """Column of the index with class numbers from 0; unset: no classes."""
    classes: int = 0
    """How many classes there are."""
    dropout: float = 0.1
    """Share of clips that are shown as if they had no text and no class, so that guidance works."""
    cache_mib: int = 1024
    """Memory for states of captions seen before; the text encoder works on new ones alone."""

    def __post_init__(self) -> None:
        require(
            not (self.text and self.embeddings),
            f"conditioning.text {self.text} and conditioning.embeddings {self.embeddings} exclude "
            "each other: drop one",
        )
        require(
            bool(self.embeddings) == (self.width > 0),
            "conditioning.width is the d of conditioning.embeddings and goes with it, got "
            f"{self.width} with embeddings {self.embeddings!r}",
        )
        require(
            bool(self.labels) == (self.classes > 0),
            "conditioning.classes counts the classes of conditioning.labels and goes with it, got "
            f"{self.classes} with labels {self.labels!r}",
        )
        require(self.length >= 1, f"conditioning.length must be at least 1, got {self.length}")
        require(
            0 <= self.dropout <= 1, f"conditioning.dropout must be in [0, 1], got {self.dropout}"
        )
        require(
            self.cache_mib >= 0, f"conditioning.cache_mib must not be negative, got {self.cache_mib}"
        )
