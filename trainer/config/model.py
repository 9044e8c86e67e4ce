"""The network."""

from dataclasses import dataclass

from trainer.config.rules import require


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The space-time transformer."""

    dim: int = 384
    """Channels of a token."""
    depth: int = 8
    """Blocks; each attends in space, then in time."""
    heads: int = 6
    """Attention heads."""
    patch: int = 8
    """Pixels on a side of the square that becomes a token; divides the clip's height and width."""

    def __post_init__(self) -> None:
        for name in ("dim", "depth", "heads", "patch"):
            value = getattr(self, name)
            require(value >= 1, f"model.{name} must be at least 1, got {value}")
        require(
            self.dim % self.heads == 0 and self.dim % 4 == 0,
            f"model.dim must be a multiple of model.heads and of 4, got dim {self.dim} "
            f"with {self.heads} heads",
        )
