"""How clips are noised."""

from dataclasses import dataclass

from trainer.config.rules import require


@dataclass(frozen=True, kw_only=True, slots=True)
class NoiseConfig:
    """Noise levels of training (EDM, arXiv 2206.00364, table 1)."""

    mean: float = -1.2
    """Mean of ln sigma."""
    std: float = 1.2
    """Standard deviation of ln sigma."""
    sigma_data: float = 0.5
    """Standard deviation of the frames, which are scaled to [-1, 1]."""

    def __post_init__(self) -> None:
        require(self.std > 0, f"noise.std must be > 0, got {self.std}")
        require(self.sigma_data > 0, f"noise.sigma_data must be > 0, got {self.sigma_data}")
