"""Named runs to start from."""

from collections.abc import Callable

from trainer.config import ModelConfig, OptimConfig, StreamConfig, TrainConfig


def small() -> TrainConfig:
    """A model for one GPU of 24 GB and clips of about 256x384."""
    return TrainConfig(model=ModelConfig(checkpointing=True))


def tiny() -> TrainConfig:
    """Minutes on a CPU, with clips of about 64x96: shows that everything works."""
    return TrainConfig(
        steps=60,
        log_every=1,
        checkpoint_every=30,
        stream=StreamConfig(frames=8, batch=4, threads=2),
        model=ModelConfig(dim=96, depth=2, heads=3, patch=8),
        optim=OptimConfig(learning_rate=1e-3, warmup=10, ema_halflife=20),
    )


PRESETS: dict[str, Callable[[], TrainConfig]] = {"small": small, "tiny": tiny}
