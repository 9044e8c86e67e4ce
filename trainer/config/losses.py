"""What is asked of motion beside the reconstruction."""

from dataclasses import dataclass
from typing import Literal

from trainer.config.rules import require


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
    """The weight 1/sigma^2 stops growing below this noise level, where most of the loss is that of
    compression, which the true clip has, too."""
    reduction: Literal["mean", "sum"] = "mean"
    """Over pairs and pixels: their mean, or the paper's sum times 1e-6."""
    balance: Literal["added", "w_ss", "w_ls"] = "added"
    """How it stands beside the reconstruction below the gate: added to it; or their weighted
    average, (1 - w)*reconstruction + w*motion, with a w that is large at small noise (w_ss) or at
    large (w_ls). The paper names these without a formula: sigma_d^2/(sigma^2 + sigma_d^2), and 1
    less that, are our reading. A psi of inf leaves them ungated, as the paper has them."""
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
    accept_resize: bool = False
    """Train although frames are resized (stream.size): their flow is not the stored one made
    smaller, so a perfect model could not bring the loss to zero. docs/streaming.md has figures."""
    compile: bool = False
    """Run the estimator through torch.compile: minutes at the start, then fewer kernels. Its flow
    is rounded otherwise than the layer's."""

    def __post_init__(self) -> None:
        for name in ("weight", "psi", "occluded_weight"):
            value = getattr(self, name)
            require(value >= 0, f"flow_loss.{name} must not be negative, got {value}")
        require(self.sigma_floor > 0, f"flow_loss.sigma_floor must be > 0, got {self.sigma_floor}")
        require(self.max_hops >= 1, f"flow_loss.max_hops must be at least 1, got {self.max_hops}")


@dataclass(frozen=True, kw_only=True, slots=True)
class WarpingConfig:
    """Frames agree with their neighbours, carried along stored flow. The gate, the order of
    shuffled clips and max_hops are those of flow_loss."""

    weight: float = 0.0
    """Weight of the loss beside the reconstruction; 0 trains without it."""
    penalty: Literal["square", "charbonnier"] = "square"
    """Of differences between intensities in [0, 1]: their square, or soft absolute value, which
    forgives single pixels whose flow is wrong."""

    def __post_init__(self) -> None:
        require(self.weight >= 0, f"warping.weight must not be negative, got {self.weight}")


@dataclass(frozen=True, kw_only=True, slots=True)
class SmoothnessConfig:
    """Little changes from slot to slot. It is least for a clip that stands still."""

    weight: float = 0.0
    """Weight of the loss beside the reconstruction; 0 trains without it."""
    form: Literal["formula", "code"] = "code"
    """Of the two losses that one article gives: the sum of squared differences, or the mean of
    absolute first and second differences, whose weight does not depend on the size of clips."""
    alpha: float = 0.3
    """Weight of the second term; 0.1 to 0.5 in the article."""

    def __post_init__(self) -> None:
        for name in ("weight", "alpha"):
            value = getattr(self, name)
            require(value >= 0, f"smoothness.{name} must not be negative, got {value}")
