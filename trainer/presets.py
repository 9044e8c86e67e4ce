"""Named runs to start from."""

from collections.abc import Callable
from dataclasses import replace

from trainer.config import ModelConfig, OptimConfig, StreamConfig, TrainConfig


def small() -> TrainConfig:
    """A model for one GPU of 24 GB and clips of about 256x384."""
    return TrainConfig(model=ModelConfig(checkpointing=True))


def tiny() -> TrainConfig:
    """Minutes on a CPU, with clips of about 64x96: shows that everything works."""
    return TrainConfig(
        clips=240,
        log_steps=1,
        checkpoint_clips=120,
        stream=StreamConfig(frames=8, batch=4, threads=2),
        model=ModelConfig(dim=96, depth=2, heads=3, patch=8),
        optim=OptimConfig(learning_rate=1e-3, warmup_clips=40, ema_clips=80),
    )


PRESETS: dict[str, Callable[[], TrainConfig]] = {"small": small, "tiny": tiny}


def baseline(config: TrainConfig) -> TrainConfig:
    """None of the methods: the plain process on clips as they are."""
    return replace(
        config,
        fluxflow=replace(config.fluxflow, mode="off"),
        flow_loss=replace(config.flow_loss, weight=0.0),
        pyramid=replace(config.pyramid, enabled=False),
        process=replace(config.process, per_slot=0.0),
    )


def fluxflow(config: TrainConfig) -> TrainConfig:
    """Shuffled frames alone."""
    return replace(baseline(config), fluxflow=config.fluxflow)


def flowloss(config: TrainConfig) -> TrainConfig:
    """Motion supervised by stored flow alone."""
    return replace(baseline(config), flow_loss=config.flow_loss)


def pyramid(config: TrainConfig) -> TrainConfig:
    """Noisier stages on fewer frames, alone."""
    return replace(baseline(config), pyramid=config.pyramid)


def fvdm(config: TrainConfig) -> TrainConfig:
    """A noise level for each slot in a fifth of the clips, alone."""
    return replace(baseline(config), process=replace(config.process, per_slot=0.2))


def every(config: TrainConfig) -> TrainConfig:
    """All of them together."""
    return replace(config, process=replace(config.process, per_slot=0.2))


METHODS: dict[str, Callable[[TrainConfig], TrainConfig]] = {
    "baseline": baseline,
    "fluxflow": fluxflow,
    "flowloss": flowloss,
    "pyramid": pyramid,
    "fvdm": fvdm,
    "all": every,
}
