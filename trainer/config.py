"""The configuration of a training run.

Its fields are documented one by one, below each, because these texts are the help of the command
line; other classes list theirs under `Attributes:`. A value outside its rule raises `UsageError`.
"""

import math
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Literal

from shards import UsageError


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UsageError(message)


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamConfig:
    """What is read from the dataset, and how far ahead."""

    frames: int = 16
    """Stored frames a training clip spans; every stage sees this window at its own rate."""
    batch: int = 8
    """Clips in a global batch, over all ranks."""
    layer: str = "variational"
    """Flow layer: an estimator's name, or the start of a layer's digest."""
    window: int = 16
    """Shards whose clips are mixed with each other while shuffling."""
    where: str = ""
    """Filter over columns of the index, as `frames >= 33 and "dog" in caption`; docs/streaming.md
    lists what it may hold. Empty: all clips."""
    windows: Literal["drawn", "all"] = "drawn"
    """Of clips longer than `frames`: one window a clip and epoch, drawn anew each time, or all that
    follow each other, each a sample of its own."""
    max_damaged: int = 64
    """Samples that may turn out damaged, each stood in for by another; one more ends the run."""
    threads: int = 4
    """Threads that read and decode."""
    prefetch: int = 2
    """Batches prepared ahead of the one in training, as far as memory goes."""
    prefetch_mib: int = 2048
    """Memory of the batches prepared ahead; one is prepared in any case."""
    rgb_on: Literal["host", "device"] = "host"
    """Where stored clips become the same RGB; on a GPU the host has half of the work and bytes."""

    def __post_init__(self) -> None:
        at_least_1 = ("frames", "batch", "window", "threads", "prefetch")
        for name in (*at_least_1, "max_damaged", "prefetch_mib"):
            value, least = getattr(self, name), int(name in at_least_1)
            _require(value >= least, f"stream.{name} must be at least {least}, got {value}")


@dataclass(frozen=True, kw_only=True, slots=True)
class FluxFlowConfig:
    """Shuffling of frames in time (FluxFlow, arXiv 2503.15417)."""

    mode: Literal["off", "frame", "block"] = "frame"
    """What trades places: single frames, or blocks of consecutive frames."""
    count: int | None = None
    """Frames (or blocks) of a full-rate clip that are shuffled; unset: `ratio` of them."""
    ratio: float | None = None
    """Share of the frames (or blocks) that are shuffled where `count` is unset; unset: 1/8 of the
    frames or 1/4 of the blocks. The paper's best frame settings lie between 1/8 and 1/6, its best
    block settings between 1/4 and 2/3; quality drops above one half of the frames."""
    block: int = 2
    """Frames in a block, at the full rate. A pyramid stage has as many blocks, of fewer slots."""
    derangement: bool = False
    """Move every chosen frame. Without it, as in the paper, a shuffle of two frames leaves the clip
    as it was half of the time."""
    before_stride: bool = False
    """Shuffle the full-rate clip and subsample it then, rather than the subsampled clip: the number
    of frames moved becomes random, and off-stride frames are read."""

    def __post_init__(self) -> None:
        _require(
            self.ratio is None or 0 < self.ratio <= 1,
            f"fluxflow.ratio must be in (0, 1], got {self.ratio}; to shuffle nothing, set "
            "fluxflow.mode to off",
        )
        _require(self.block >= 1, f"fluxflow.block must be at least 1, got {self.block}")
        _require(
            self.count is None or self.count >= 2,
            f"fluxflow.count must be at least 2, because one alone cannot trade places, got "
            f"{self.count}; to shuffle nothing, set fluxflow.mode to off",
        )

    def units(self, frames: int, stride: int = 1) -> tuple[int, int]:
        """(how many frames or blocks can trade places, slots in each) at a stride."""
        slots = 1 if self.mode == "frame" else max(1, self.block // stride)
        return frames // stride // slots, slots

    def chosen(self, frames: int) -> int:
        """Frames or blocks of a full-rate clip that are shuffled: `count`, else ⌊ratio·units⌋.

        The ratio may be a rounded quotient (49·(2/49) is 1.999… or 2), hence the small allowance
        before the floor. One unit alone cannot be shuffled, so a derived count of 1 becomes 2.
        """
        if self.count is not None:
            return self.count
        ratio = self.ratio or (1 / 8 if self.mode == "frame" else 1 / 4)
        derived = math.floor(ratio * self.units(frames)[0] + 1e-6)
        return 2 if derived == 1 else derived

    def dose(self, frames: int, stride: int = 1) -> Fraction:
        """Units expected to move at a stride, for the same share of slots as at the full rate.

        A uniform permutation of m units moves m - 1 of them on average, a derangement all m.
        """
        moved = self.chosen(frames) - (not self.derangement)
        share = Fraction(moved * self.units(frames)[1], frames)
        return share * (frames // stride) / self.units(frames, stride)[1]

    def check(self, frames: int, stride: int) -> None:
        """Raise UsageError unless clips of `frames` frames can be shuffled so at a stride."""
        (total, _), (units, _) = self.units(frames), self.units(frames, stride)
        dose, most = self.dose(frames, stride), units - (not self.derangement) if units > 1 else 0
        _require(
            0 < dose <= most,
            f"fluxflow with count {self.count} and ratio {self.ratio} chooses {self.chosen(frames)}"
            f" of {total} {self.mode}s, to move {max(0, float(dose)):.3g} of the {units} at stride "
            f"{stride}, where a shuffle moves at most {most} on average and must move something: "
            "change fluxflow.count, ratio or block, or stream.frames, or set fluxflow.mode to off",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PyramidConfig:
    """Noisier stages train on fewer frames (TPDiff, arXiv 2503.09566)."""

    enabled: bool = True
    """Off: one stage at full rate over all noise levels, plain EDM."""
    ends: tuple[float, ...] = (0.0, 0.5, 2.0)
    """The clean end of each stage's noise levels, full rate first, then half, then a quarter."""
    sigma_max: float = 80.0
    """The highest noise level, where the coarsest stage starts."""

    def __post_init__(self) -> None:
        levels = (*self.ends, self.sigma_max)
        _require(
            1 <= len(self.ends) <= 3,
            f"pyramid.ends must name 1 to 3 stages (clip videos decode at strides 1, 2, 4), "
            f"got {self.ends}",
        )
        _require(self.ends[0] == 0, f"pyramid.ends must begin with 0, got {self.ends}")
        _require(
            all(low < high for low, high in pairwise(levels)),
            f"pyramid.ends and sigma_max must rise, got {levels}",
        )

    @property
    def strides(self) -> tuple[int, ...]:
        """The frame stride of each stage, full rate first."""
        return tuple(2**k for k in range(len(self.ends))) if self.enabled else (1,)

    @property
    def coarsest(self) -> int:
        """The largest frame stride of any stage."""
        return self.strides[-1]


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowLossConfig:
    """Supervision of motion by stored flow (FlowLoss, arXiv 2504.14535)."""

    weight: float = 0.02
    """Weight of the loss beside the reconstruction; 0 trains without it and reads no flow."""
    psi: float = 0.5
    """Noise level from which on the loss is off: little motion is left to see there. Of the two
    levels of a pair the larger counts."""
    occluded_weight: float = 0.3
    """Weight of pixels that are occluded in the true clip."""
    sigma_floor: float = 0.05
    """The weight 1/sigma^2 stops growing below this noise level."""
    reduction: Literal["mean", "sum"] = "mean"
    """Over pairs and pixels: their mean, or the paper's sum times 1e-6."""
    order: Literal["restored", "composed", "neighbours"] = "restored"
    """How shuffled clips are compared: put back in order first; as they stand, with composed flow;
    or as they stand, only where neighbours stayed neighbours."""
    max_hops: int = 8
    """Pairs that need more stored fields than this are left out."""
    estimator: str = ""
    """Flow estimator run on the model's frames; unset: the one that made the layer."""
    accept_layer: str = ""
    """Estimator of a layer to train against although the live estimator differs. A perfect model
    could then not bring the loss to zero, so the layer has to be named."""
    compile: bool = False
    """Run the estimator through torch.compile: minutes at the start, then fewer kernels. Its flow
    is rounded otherwise than the layer's."""

    def __post_init__(self) -> None:
        for name in ("weight", "psi", "occluded_weight"):
            value = getattr(self, name)
            _require(value >= 0, f"flow_loss.{name} must not be negative, got {value}")
        _require(self.sigma_floor > 0, f"flow_loss.sigma_floor must be > 0, got {self.sigma_floor}")
        _require(self.max_hops >= 1, f"flow_loss.max_hops must be at least 1, got {self.max_hops}")


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
        _require(self.std > 0, f"noise.std must be > 0, got {self.std}")
        _require(self.sigma_data > 0, f"noise.sigma_data must be > 0, got {self.sigma_data}")


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
            _require(value >= 1, f"model.{name} must be at least 1, got {value}")
        _require(
            self.dim % self.heads == 0 and self.dim % 4 == 0,
            f"model.dim must be a multiple of model.heads and of 4, got dim {self.dim} "
            f"with {self.heads} heads",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    """AdamW with a linear warm-up to a constant rate, and an average of the weights."""

    learning_rate: float = 3e-4
    """Rate after the warm-up."""
    warmup: int = 1000
    """Steps over which the rate rises from zero."""
    weight_decay: float = 0.01
    """Of AdamW."""
    clip_norm: float = 1.0
    """The gradient is scaled down to this norm where it is longer."""
    ema_halflife: int = 1000
    """Steps after which a weight's share in the average has halved; 0 keeps no average."""

    def __post_init__(self) -> None:
        _require(
            self.learning_rate > 0, f"optim.learning_rate must be > 0, got {self.learning_rate}"
        )
        _require(self.clip_norm > 0, f"optim.clip_norm must be > 0, got {self.clip_norm}")
        for name in ("warmup", "weight_decay", "ema_halflife"):
            value = getattr(self, name)
            _require(value >= 0, f"optim.{name} must not be negative, got {value}")


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
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "checkpoint_every"):
            value = getattr(self, name)
            _require(value >= 1, f"{name} must be at least 1, got {value}")
        _require(
            self.stream.frames % self.pyramid.coarsest == 0,
            f"stream.frames must be a multiple of {self.pyramid.coarsest}, the stride of the "
            f"coarsest pyramid stage, got {self.stream.frames}",
        )
        if self.fluxflow.mode != "off":
            for stride in (1,) if self.fluxflow.before_stride else self.pyramid.strides:
                self.fluxflow.check(self.stream.frames, stride)
