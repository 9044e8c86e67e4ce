"""How weights are changed."""

from dataclasses import dataclass

from trainer.config.rules import require


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    """AdamW: a rate that rises, stays, and may fall at the end; and an average of the weights."""

    learning_rate: float = 3e-4
    """Rate after the warm-up."""
    warmup_clips: int = 8000
    """Clips over which the rate rises from zero."""
    decay_clips: int = 0
    """The last clips of the run (`clips`), over which the rate falls to zero; 0: it never does. A
    run that goes on to more clips goes on at the rate that those have."""
    weight_decay: float = 0.01
    """Of AdamW."""
    clip_norm: float = 1.0
    """The gradient is scaled down to this norm where it is longer."""
    ema_clips: int = 8000
    """Clips after which a weight's share in the average has halved; 0 keeps no average."""
    accumulate: int = 1
    """Parts that each rank's share of a batch is cut into, one after another: less memory, the same
    step."""

    def __post_init__(self) -> None:
        require(
            self.learning_rate > 0, f"optim.learning_rate must be > 0, got {self.learning_rate}"
        )
        require(self.clip_norm > 0, f"optim.clip_norm must be > 0, got {self.clip_norm}")
        for name in ("warmup_clips", "decay_clips", "weight_decay", "ema_clips"):
            value = getattr(self, name)
            require(value >= 0, f"optim.{name} must not be negative, got {value}")
        require(self.accumulate >= 1, f"optim.accumulate must be at least 1, got {self.accumulate}")
