"""FlowLoss: the motion of denoised clips is compared with stored flow (arXiv 2504.14535).

The paper's term is w_ψ(σ)·λ(σ)·Σ o·‖f_stored − f_live‖² with w_ψ(σ) = σ_d²/(σ² + σ_d²) below the
gate ψ and 0 from there on, λ EDM's loss weight, and o = 1 where the pixel is visible in the true
clip and 0.3 elsewhere; it is stated for σ_d = 1. For every σ_d, w·λ = 1/σ², which is bounded here
by a floor under σ. The σ of a pair is the larger of its two slots' levels.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from flow_cache import FlowEstimator, FlowSpec, load_estimator
from shards import UsageError
from trainer.config import FlowLossConfig
from trainer.process.pyramid import Clips, Levels
from trainer.stream.batch import FlowTargets, to_unit

SUM_SCALE = 1e-6  # s of the paper, for `reduction="sum"`


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FlowTerms:
    """FlowLoss of one batch.

    Attributes:
        loss: what to add to the objective; a constant 0 where no pair passed the gate.
        error: reduced o·‖Δf‖² over the pairs that passed, of each sample that has such, detached;
            px² per pixel under "mean".
    """

    loss: Float[Tensor, ""]
    error: Float[Tensor, " passed"]


class FlowLoss:
    """The weighted, gated loss; the estimator runs only on pairs that pass the gate.

    Raises:
        UsageError: the estimator carries no gradients.
    """

    def __init__(self, config: FlowLossConfig, estimator: FlowEstimator) -> None:
        if not estimator.differentiable:
            raise UsageError(
                f"FlowLoss needs a flow estimator that carries gradients, {estimator.name!r} does "
                "not: set flow_loss.estimator to one that does, such as variational, or "
                "flow_loss.weight to 0"
            )
        self.config = config
        self.estimator = estimator

    def __call__(self, clean: Clips, levels: Levels, targets: FlowTargets | None) -> FlowTerms:
        """The loss of one batch.

        Args:
            clean: the model's clean clips in slot order, scaled as by `batch.to_signal`. For a
                pyramid stage, `pyramid.clean_estimate` of the prediction.
            targets: stored motion of some or all samples; None is a loss of 0.
        """
        nothing = FlowTerms(loss=clean.new_zeros(()), error=clean.new_zeros(0))
        if targets is None:
            return nothing
        level = levels[targets.rows[:, None, None], targets.slots].amax(dim=2)
        weight = sigma_weight(level, self.config)
        passed = weight.any(dim=1).nonzero()[:, 0].tolist()
        if not passed:
            return nothing
        terms = [self._sample_terms(clean, targets, index, weight[index]) for index in passed]
        losses, errors = (torch.stack(parts) for parts in zip(*terms, strict=True))
        heaviest = weight[passed].amax(dim=1)
        loss = self.config.weight * (heaviest * losses).sum() / len(clean)
        return FlowTerms(loss=loss, error=errors)

    def _sample_terms(
        self, clean: Tensor, targets: FlowTargets, index: int, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The loss of targets' sample `index`, over its largest weight [n], and the plain error.

        Pairs that the gate keeps out count as 0 in the loss, as samples do, and not in the error.
        """
        pairs, frames = weight.nonzero()[:, 0], to_unit(clean[targets.rows[index]].float())
        slots, hops = targets.slots[index, pairs], targets.hops[index, pairs]
        live = self.estimator.pair(frames[slots[:, 0]], frames[slots[:, 1]])
        distance = (live - targets.flow[index, pairs]).square().sum(dim=1)
        squares = distance * pixel_weight(targets.visible[index, pairs], hops, self.config)
        relative = (weight[pairs] / weight.max())[:, None, None]  # exactly 1 where levels are equal
        loss = self._reduced(relative * squares, targets.hops[index])
        return loss, self._reduced(squares.detach(), hops)

    def _reduced(self, squares: Tensor, hops: Tensor) -> Tensor:
        """The paper's sum, or the mean over the pixels of all supervised pairs."""
        if self.config.reduction == "sum":
            return SUM_SCALE * squares.sum()
        pixels = (hops > 0).sum() * squares[0].numel()
        return squares.sum() / pixels.clamp(min=1)

    @torch.no_grad()
    def floor(self, clean: Clips, targets: FlowTargets) -> Float[Tensor, ""]:
        """The error of the true clips themselves, mean over samples: what no model can go below.

        Stored flow comes from the source video and is quantised; the clips are compressed.
        """
        weight = clean.new_ones(targets.hops.shape)
        errors = [self._sample_terms(clean, targets, i, w)[1] for i, w in enumerate(weight)]
        return torch.stack(errors).mean()


def sigma_weight(sigma: Float[Tensor, "*shape"], config: FlowLossConfig) -> Float[Tensor, "*shape"]:
    """w_ψ(σ)·λ(σ) = 1/σ² below ψ, at most 1/floor², and exactly 0 from ψ on."""
    return (sigma < config.psi) / sigma.clamp(min=config.sigma_floor) ** 2


def pixel_weight(
    visible: Bool[Tensor, "n h w"], hops: Int64[Tensor, " n"], config: FlowLossConfig
) -> Float[Tensor, "n h w"]:
    """o of each pixel of each pair.

    1 where visible; elsewhere `occluded_weight` if the flow is stored as it is, and 0 if it is
    composed, because a chain carries no motion through an occlusion. 0 for unsupervised pairs.
    """
    elsewhere = config.occluded_weight * (hops == 1)
    weight = torch.where(visible, 1.0, elsewhere[:, None, None])
    return weight * (hops > 0)[:, None, None]


def live_estimator(spec: FlowSpec, config: FlowLossConfig) -> FlowEstimator:
    """The estimator to run on the model's frames, checked against the layer's.

    Raises:
        UsageError: there is no such estimator here, or they differ and `config.accept_layer` does
            not name the layer's estimator.
    """
    name = config.estimator or spec.estimator
    params = dict(spec.params) if name == spec.estimator else {}
    try:
        estimator = load_estimator(name, **params)
    except ValueError as error:
        raise UsageError(str(error)) from error
    live, stored = _identity(estimator), _identity(spec)
    differing = [key for key in live if live[key] != stored[key]]
    if differing and config.accept_layer != spec.estimator:
        raise UsageError(
            f"the live flow estimator is {_named(live, differing)}, but layer {spec.layer} was "
            f"made by {_named(stored, differing)}: a perfect model would still have a loss. Add "
            f"a layer with `fluxshard flow DATASET --estimator {name}`, or accept this one with "
            f"--flow-loss.accept-layer {spec.estimator}"
        )
    return estimator


def check_layer(spec: FlowSpec, config: FlowLossConfig, size: tuple[int, int], stride: int) -> None:
    """Raise UsageError unless the layer can supervise clips of `size` at strides up to `stride`."""
    if spec.size != size:
        raise UsageError(
            f"layer {spec.layer} holds flow of {spec.size[0]}x{spec.size[1]} pixels, the clips are "
            f"{size[0]}x{size[1]}: FlowLoss compares at one geometry. Add a layer"
            f" of this size with `fluxshard flow DATASET --estimator {spec.estimator}`"
        )
    smallest = min(spec.levels)
    if smallest > 1 or "forward" not in spec.directions:
        raise UsageError(
            f"layer {spec.layer} holds levels {spec.levels}, {' and '.join(spec.directions)}: "
            f"training at strides 1 to {stride} needs level 1 forward. Add "
            f"a layer with `fluxshard flow DATASET --estimator {spec.estimator} --levels 1,2,4`"
        )
    if config.order != "restored" and "backward" not in spec.directions:
        raise UsageError(
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
