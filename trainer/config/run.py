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
from trainer.config.validation import ValidationConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run; where it reads and writes is not part of it."""

    clips: int = 800_000
    """Clips to train on in all, rounded up to whole batches; a finished run can be continued with a
    larger number."""
    seed: int = 0
    """Decides the weights at the start, the order of clips, plans and noise."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs; auto: on a GPU if there is one."""
    parallel: Literal["auto", "none", "ddp", "fsdp2"] = "auto"
    """How the processes that `torchrun` started share the work. ddp: each holds the whole model.
    fsdp2: each holds a part of it, of its gradients and of the optimizer's state. auto: ddp where
    there are several."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """What the network computes in; weights and losses are float32. auto: bf16 on a GPU."""
    log_steps: int = 10
    """Steps between writes of metrics.jsonl, which holds every step."""
    tensorboard: bool = False
    """Write for TensorBoard, too, into the folder of the run; needs the extra `tensorboard`."""
    wandb: str = ""
    """Project of Weights & Biases to send metrics to; needs the extra `wandb`."""
    checkpoint_clips: int = 8000
    """Clips between checkpoints."""
    keep_checkpoints: int = 2
    """How many of the latest checkpoints stay; older ones are deleted."""
    init_from: str = ""
    """Folder of a run whose weights to begin with, for a model of the same shape; the optimizer and
    the order begin anew."""
    init_with: Literal["average", "last"] = "average"
    """Which of its weights: their average, or those of its last step."""
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
    validation: ValidationConfig = field(default_factory=ValidationConfig)

    def __post_init__(self) -> None:
        for name in ("clips", "log_steps", "checkpoint_clips", "keep_checkpoints"):
            value = getattr(self, name)
            require(value >= 1, f"{name} must be at least 1, got {value}")
        require(
            self.stream.batch % self.optim.accumulate == 0,
            f"stream.batch must be a multiple of optim.accumulate, got {self.stream.batch} clips "
            f"in {self.optim.accumulate} parts",
        )
        for frames in dict.fromkeys(bucket.frames for bucket in self.stream.shapes):
            self._check_frames(frames)
        self._check_flow_loss()

    def in_bf16(self, device: str) -> bool:
        """Whether the network computes in bfloat16 on a device of this type."""
        return self.precision == "bf16" or (self.precision == "auto" and device == "cuda")

    def _check_frames(self, frames: int) -> None:
        """Each stage has whole slots, some of them to learn, and what is given is given in all."""
        coarsest, given = self.pyramid.coarsest, self.process.given
        require(
            frames % coarsest in (0, 1),
            f"{'frames of stream.buckets' if self.stream.buckets else 'stream.frames'} must be a "
            f"multiple of {coarsest}, the stride of the coarsest pyramid stage, or one more, got "
            f"{frames}",
        )
        slots = slots_at(frames, coarsest)
        require(
            given < slots,
            f"process.given {given} leaves nothing to learn in the {slots} slots of "
            f"the coarsest stage: give fewer, or longer clips by stream.frames",
        )
        require(
            given <= 1 or coarsest == 1,
            f"process.given {given} counts slots, which are other frames at each stage of the "
            "pyramid, and no sampling could give them: set it to 1, or pyramid.enabled off",
        )
        if self.fluxflow.mode != "off":
            for stride in (1,) if self.fluxflow.before_stride else self.pyramid.strides:
                self.fluxflow.check(frames, stride)

    def _check_flow_loss(self) -> None:
        """What is asked of motion is averaged with EDM's loss alone."""
        loss = self.flow_loss
        require(
            loss.weight == 0 or loss.balance == "added" or self.process.kind == "edm",
            f"flow_loss.balance {loss.balance} divides EDM's weight of the reconstruction, and "
            f"process.kind {self.process.kind} has another: use added, or process.kind edm",
        )
