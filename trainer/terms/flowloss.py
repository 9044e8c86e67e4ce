"""FlowLoss: the motion of denoised clips is compared with stored flow (arXiv 2504.14535).

The paper's term is w_ψ(σ)·λ(σ)·Σ o·‖f_stored − f_live‖² with w_ψ(σ) = σ_d²/(σ² + σ_d²) below the
gate ψ and 0 from there on, λ EDM's loss weight, and o = 1 where the pixel is visible in the true
clip and 0.3 elsewhere; it is stated for σ_d = 1. For every σ_d, w·λ = 1/σ², which is bounded here
by a floor under σ.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flow_cache.estimators import FlowEstimator, load_estimator
from flow_cache.spec import FlowSpec
from trainer.config import FlowLossConfig
from trainer.stream.batch import FlowTargets, to_unit

SUM_SCALE = 1e-6  # s of the paper, for `reduction="sum"`


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FlowTerms:
    """FlowLoss of one batch.

    Attributes:
        loss: scalar to add to the objective; a constant 0 where no sample passed the gate.
        error: [g], reduced o·‖Δf‖² of each sample that passed, detached; px² a pixel under "mean".
    """

    loss: Tensor
    error: Tensor


class FlowLoss:
    """The weighted, gated loss; the estimator runs only on samples that pass the gate."""

    def __init__(self, config: FlowLossConfig, estimator: FlowEstimator) -> None:
        if not estimator.differentiable:
            raise ValueError(
                f"FlowLoss needs a flow estimator that carries gradients, {estimator.name!r} does "
                "not: set flow_loss.estimator to one that does, such as variational, or "
                "flow_loss.weight to 0"
            )
        self.config = config
        self.estimator = estimator

    def __call__(self, clean: Tensor, sigma: Tensor, targets: FlowTargets | None) -> FlowTerms:
        """The loss of one batch.

        Args:
            clean: float [b, t, 3, h, w], the model's clean clips in slot order, scaled as by
                `batch.to_signal`. For a pyramid stage, `pyramid.clean_estimate` of the prediction.
            sigma: float [b], their noise levels.
            targets: stored motion of some or all samples; None is a loss of 0.
        """
        nothing = FlowTerms(loss=clean.new_zeros(()), error=clean.new_zeros(0))
        if targets is None:
            return nothing
        weight = sigma_weight(sigma[targets.rows], self.config)
        passed = weight.nonzero()[:, 0].tolist()
        if not passed:
            return nothing
        error = torch.stack([self.sample_error(clean, targets, index) for index in passed])
        loss = self.config.weight * (weight[passed] * error).sum() / len(clean)
        return FlowTerms(loss=loss, error=error.detach())

    def sample_error(self, clean: Tensor, targets: FlowTargets, index: int) -> Tensor:
        """Reduced o·‖f_stored − f_live‖² of targets' sample `index`, scalar, unweighted by σ."""
        frames = to_unit(clean[targets.rows[index]].float())
        slots, hops = targets.slots[index], targets.hops[index]
        live = self.estimator.pair(frames[slots[:, 0]], frames[slots[:, 1]])
        distance = (live - targets.flow[index]).square().sum(dim=1)
        weighted = distance * pixel_weight(targets.visible[index], hops, self.config)
        if self.config.reduction == "sum":
            return SUM_SCALE * weighted.sum()
        pixels = (hops > 0).sum() * distance[0].numel()
        return weighted.sum() / pixels.clamp(min=1)

    @torch.no_grad()
    def floor(self, clean: Tensor, targets: FlowTargets) -> Tensor:
        """The error of the true clips themselves, mean over samples: what no model can go below.

        Stored flow comes from the source video and is quantised; the clips are compressed.
        """
        errors = [self.sample_error(clean, targets, i) for i in range(len(targets.rows))]
        return torch.stack(errors).mean()


def sigma_weight(sigma: Tensor, config: FlowLossConfig) -> Tensor:
    """w_ψ(σ)·λ(σ) = 1/σ² below ψ, at most 1/floor², and exactly 0 from ψ on."""
    return (sigma < config.psi) / sigma.clamp(min=config.sigma_floor) ** 2


def pixel_weight(visible: Tensor, hops: Tensor, config: FlowLossConfig) -> Tensor:
    """o for visible [n, h, w] and hops [n].

    1 where visible; elsewhere `occluded_weight` if the flow is stored as it is, and 0 if it is
    composed, because a chain carries no motion through an occlusion. 0 for unsupervised pairs.
    """
    elsewhere = config.occluded_weight * (hops == 1)
    weight = torch.where(visible, 1.0, elsewhere[:, None, None])
    return weight * (hops > 0)[:, None, None]


def live_estimator(spec: FlowSpec, config: FlowLossConfig) -> FlowEstimator:
    """The estimator to run on the model's frames, checked against the layer's.

    Raises:
        ValueError: they differ, and `config.accept_layer` does not name the layer's estimator.
    """
    name = config.estimator or spec.estimator
    params = dict(spec.params) if name == spec.estimator else {}
    estimator = load_estimator(name, **params)
    live, stored = _identity(estimator), _identity(spec)
    differing = [key for key in live if live[key] != stored[key]]
    if differing and config.accept_layer != spec.estimator:
        raise ValueError(
            f"the live flow estimator is {_named(live, differing)}, but layer {spec.layer} was "
            f"made by {_named(stored, differing)}: a perfect model would still have a loss. Add "
            f"a layer with `fluxshard flow DATASET --estimator {name}`, or accept this one with "
            f"--flow-loss.accept-layer {spec.estimator}"
        )
    return estimator


def check_layer(spec: FlowSpec, config: FlowLossConfig, size: tuple[int, int], stride: int) -> None:
    """Raise ValueError unless the layer can supervise clips of `size` at strides up to `stride`."""
    if spec.size != size:
        raise ValueError(
            f"layer {spec.layer} holds flow of {spec.size[0]}x{spec.size[1]} pixels, the clips are "
            f"{size[0]}x{size[1]}: FlowLoss compares at one geometry. Add a layer"
            f" of this size with `fluxshard flow DATASET --estimator {spec.estimator}`"
        )
    smallest = min(spec.levels)
    if smallest > 1 or "forward" not in spec.directions:
        raise ValueError(
            f"layer {spec.layer} holds levels {spec.levels}, {' and '.join(spec.directions)}: "
            f"training at strides 1 to {stride} needs level 1 forward. Add "
            f"a layer with `fluxshard flow DATASET --estimator {spec.estimator} --levels 1,2,4`"
        )
    if config.order != "restored" and "backward" not in spec.directions:
        raise ValueError(
            f"flow_loss.order {config.order!r} compares frames that run backwards, which layer "
            f"{spec.layer} does not hold; use the order 'restored'"
        )


def _identity(source: FlowEstimator | FlowSpec) -> dict[str, Any]:
    name = source.estimator if isinstance(source, FlowSpec) else source.name
    return {
        "name": name,
        "revision": source.revision,
        "params": dict(source.params),
        "weights": source.weights_sha256,
    }


def _named(identity: dict[str, Any], keys: list[str]) -> str:
    details = ", ".join(f"{key} {identity[key]}" for key in keys if key != "name")
    return f"{identity['name']!r}" + (f" ({details})" if details else "")
