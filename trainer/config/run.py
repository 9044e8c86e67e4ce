"""One training run: all of its settings."""

from dataclasses import dataclass, field
from typing import Literal

from trainer.config.codec import CodecConfig
from trainer.config.losses import FlowLossConfig, SmoothnessConfig, WarpingConfig
from trainer.config.model import ConditioningConfig, ModelConfig
from trainer.config.optim import OptimConfig
from trainer.config.process import ProcessConfig
from trainer.config.rules import require
from trainer.config.stream import StreamConfig
from trainer.config.temporal import FluxFlowConfig, PyramidConfig, slots_at


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run; where it reads and writes is not part of it."""

    steps: int = 100_000
    """Optimizer steps in all; a finished run can be continued with a larger number."""
    seed: int = 0
    """Decides the weights at the start, the order of clips, plans and noise."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs; auto: on a GPU if there is one."""
    log_every: int = 10
    """Steps between writes of metrics.jsonl, which holds every step."""
    checkpoint_every: int = 1000
    """Steps between checkpoints."""
    stream: StreamConfig = field(default_factory=StreamConfig)
    fluxflow: FluxFlowConfig = field(default_factory=FluxFlowConfig)
    pyramid: PyramidConfig = field(default_factory=PyramidConfig)
    flow_loss: FlowLossConfig = field(default_factory=FlowLossConfig)
    warping: WarpingConfig = field(default_factory=WarpingConfig)
    smoothness: SmoothnessConfig = field(default_factory=SmoothnessConfig)
    codec: CodecConfig = field(default_factory=CodecConfig)
    process: ProcessConfig = field(default_factory=ProcessConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    conditioning: ConditioningConfig = field(default_factory=ConditioningConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "checkpoint_every"):
            value = getattr(self, name)
            require(value >= 1, f"{name} must be at least 1, got {value}")
        for frames in dict.fromkeys(bucket.frames for bucket in self.stream.shapes):
            self._check_frames(frames)

    def _check_frames(self, frames: int) -> None:
        require(
            frames % self.pyramid.coarsest in (0, 1),
            f"{'frames of stream.buckets' if self.stream.buckets else 'stream.frames'} must be a "
            f"multiple of {self.pyramid.coarsest}, the stride of the coarsest pyramid stage, or "
            f"one more, got {frames}",
        )
        slots = slots_at(frames, self.pyramid.coarsest)
        require(
            self.process.given < slots,
            f"process.given {self.process.given} leaves nothing to learn in the {slots} slots of "
            f"the coarsest stage: give fewer, or longer clips by stream.frames",
        )
        if self.fluxflow.mode != "off":
            for stride in (1,) if self.fluxflow.before_stride else self.pyramid.strides:
                self.fluxflow.check(frames, stride)
