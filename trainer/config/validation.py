"""What is kept from training, to judge by."""

from dataclasses import dataclass

from trainer.config.rules import require


@dataclass(frozen=True, kw_only=True, slots=True)
class ValidationConfig:
    """Clips of some source videos are judged and never trained on."""

    share: float = 0.0
    """Share of the source videos that is kept from training, chosen by digest: the same of every
    dataset, in any order. 0 trains on all and validates nothing."""
    by: str = "source_sha256"
    """Column of the index that says which clips belong together; those without a value are trained
    on."""
    every_clips: int = 40_000
    """Clips trained on between validations; there is one at the end, too."""
    clips: int = 64
    """Clips to judge, at most."""
    levels: int = 8
    """Noise levels to judge them at: the middle of as many equal parts of the process's law."""

    def __post_init__(self) -> None:
        require(
            0 <= self.share < 1,
            f"validation.share must be in [0, 1), got {self.share}",
        )
        require(self.by.isidentifier(), f"validation.by must be a column's name, got {self.by!r}")
        for name in ("every_clips", "clips", "levels"):
            value = getattr(self, name)
            require(value >= 1, f"validation.{name} must be at least 1, got {value}")
