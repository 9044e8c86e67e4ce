"""FlowLoss: the motion of denoised clips is compared with stored flow (arXiv 2504.14535).

The paper's term is w_ψ(σ)·λ(σ)·Σ o·‖f_stored − f_live‖² with w_ψ(σ) = σ_d²/(σ² + σ_d²) below the
gate ψ and 0 from there on, λ EDM's loss weight, and o = 1 where the pixel is visible in the true
clip and 0.3 elsewhere; it is stated for σ_d = 1. For every σ_d, w·λ = 1/σ², which is bounded here
by a floor under σ. The σ of a pair is the larger of its two slots' levels.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from flow_cache import FlowEstimator, FlowSpec, load_estimator
from flow_cache.estimators import IMPORTED
from flow_cache.estimators.compiled import compiled
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
        pairs: (sample of the batch, first slot, second slot) of each pair that was estimated; on
            the CPU.
        sound: whether all of that pair's flow is finite. A pair whose flow is not, because a frame
            of it is not, counts for nothing and gets no gradient.
    """

    loss: Float[Tensor, ""]
    error: Float[Tensor, " passed"]
    pairs: Int64[Tensor, "n 3"]
    sound: Bool[Tensor, " n"]


class FlowLoss:
    """The weighted, gated loss: one call of the estimator, for the pairs that pass the gate.

    The gate is decided on the CPU, where noise levels are drawn and `FlowTargets` keeps what says
    which pairs there are: on a GPU, no step waits for what is queued there.

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
        self.pair = compiled(estimator.pair) if config.compile else estimator.pair

    def __call__(self, clean: Clips, levels: Levels, targets: FlowTargets | None) -> FlowTerms:
        """The loss of one batch.

        Args:
            clean: the model's clean clips in slot order, scaled as by `batch.to_signal`. For a
                pyramid stage, `pyramid.clean_estimate` of the prediction.
            levels: on the CPU; from elsewhere they are fetched, and waited for.
            targets: stored motion of some or all samples; None is a loss of 0.
        """
        if targets is None:
            return _nothing(clean, samples=0)
        level = levels.cpu()[targets.rows[:, None, None], targets.slots].amax(dim=2)
        return self._terms(clean, targets, sigma_weight(level, self.config))

    @torch.no_grad()
    def floor(self, clean: Clips, targets: FlowTargets) -> Float[Tensor, ""]:
        """The error of the true clips themselves, mean over samples: what no model can go below.

        Stored flow comes from the source video and is quantised; the clips are compressed.
        """
        return self._terms(clean, targets, torch.ones(targets.hops.shape)).error.mean()

    def _terms(
        self, clean: Tensor, targets: FlowTargets, weight: Float[Tensor, "g n"]
    ) -> FlowTerms:
        """The terms of all pairs with a weight that are supervised; `weight` is on the CPU."""
        passed, heaviest = weight.any(dim=1), weight.amax(dim=1)
        sample, pair = ((weight > 0) & (targets.hops > 0)).nonzero(as_tuple=True)
        if not len(sample):
            return _nothing(clean, samples=int(passed.sum()))
        pairs = torch.column_stack([targets.rows[sample], targets.slots[sample, pair]])
        squares, sound = self._squares(clean, targets, sample, pair, pairs)
        # A pair's weight over the largest of its sample: exactly 1 where levels are equal.
        relative = weight[sample, pair] / heaviest[sample]
        relative, heaviest = (_upload(x, clean.device) for x in (relative, heaviest[passed]))
        counts = torch.bincount(sample, minlength=len(weight))[passed].tolist()
        supervised = (targets.hops > 0).sum(dim=1)[passed]
        area, losses, errors = squares[0].numel(), [], []
        for weighted, plain, fine, n in zip(
            (relative[:, None, None] * squares).split(counts),
            squares.detach().split(counts),
            sound.split(counts),
            supervised,
            strict=True,
        ):
            losses.append(self._reduced(weighted, n * area))
            errors.append(self._reduced(plain, fine.sum() * area))
        loss = self.config.weight * (heaviest * torch.stack(losses)).sum() / len(clean)
        return FlowTerms(loss=loss, error=torch.stack(errors), pairs=pairs, sound=sound)

    def _squares(
        self, clean: Tensor, targets: FlowTargets, sample: Tensor, pair: Tensor, pairs: Tensor
    ) -> tuple[Float[Tensor, "n h w"], Bool[Tensor, " n"]]:
        """o·‖Δf‖² of each pixel of each pair, 0 where flow is not finite; and whether it is."""
        source, target = (pairs[:, 0] * clean.shape[1] + pairs[:, side] for side in (1, 2))
        place, hops = sample * targets.hops.shape[1] + pair, targets.hops[sample, pair]
        source, target, place, hops = _upload(
            torch.stack([source, target, place, hops]), clean.device
        )
        frames = to_unit(clean.flatten(0, 1).float())
        first, second = (frames.index_select(0, index) for index in (source, target))
        flow, visible = (
            x.flatten(0, 1).index_select(0, place) for x in (targets.flow, targets.visible)
        )
        live = self.pair(first, second)
        sound = live.detach().isfinite().flatten(1).all(dim=1)
        for images in (first, second):
            if images.requires_grad:
                images.register_hook(partial(_where, sound, other=0.0))  # 0·NaN would be NaN
        distance = (_where(sound, live, flow) - flow).square().sum(dim=1)
        return distance * pixel_weight(visible, hops, self.config), sound

    def _reduced(self, squares: Tensor, pixels: Tensor) -> Tensor:
        """The paper's sum, or the mean over so many pixels."""
        if self.config.reduction == "sum":
            return SUM_SCALE * squares.sum()
        return squares.sum() / pixels.clamp(min=1)


def _nothing(clean: Tensor, *, samples: int) -> FlowTerms:
    """The terms where there is no pair to compare, in so many samples that passed the gate."""
    return FlowTerms(
        loss=clean.new_zeros(()),
        error=clean.new_zeros(samples),
        pairs=torch.zeros(0, 3, dtype=torch.int64),
        sound=torch.zeros(0, dtype=torch.bool, device=clean.device),
    )


def _upload(values: Tensor, device: torch.device) -> Tensor:
    """On the device, without waiting for it: from pinned memory copies are queued like kernels."""
    if device.type == "cuda":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def _where(sound: Tensor, values: Tensor, other: Tensor | float) -> Tensor:
    """The values of sound pairs; `other` for the rest."""
    return torch.where(sound[:, None, None, None], values, other)


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
    if spec.estimator.startswith(IMPORTED):
        _check_imported(spec, config)
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


def _check_imported(spec: FlowSpec, config: FlowLossConfig) -> None:
    """UsageError unless all is said that training against files needs; each is named at once."""
    wanted = {
        "--flow-loss.estimator variational": not config.estimator,
        f"--flow-loss.accept-layer {spec.estimator}": config.accept_layer != spec.estimator,
        "--flow-loss.occluded-weight 0": config.occluded_weight > 0,
    }
    if any(wanted.values()):
        raise UsageError(
            f"layer {spec.layer} was imported from files: no estimator runs live that made it, a "
            "perfect model would still have a loss, and where a pixel is hidden the files may know "
            f"no flow at all. Say {' and '.join(o for o, lacks in wanted.items() if lacks)}"
        )


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
            f"a layer with `fluxshard flow DATASET --estimator {spec.estimator} --levels 1,2,4 "
            "--directions forward`"
        )
    if config.order != "restored" and "backward" not in spec.directions:
        raise UsageError(
            f"flow_loss.order {config.order!r} compares frames that run backwards, which layer "
            f"{spec.layer} does not hold: add a layer with `fluxshard flow DATASET --estimator "
            f"{spec.estimator} --directions forward,backward`, or use the order 'restored'"
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
