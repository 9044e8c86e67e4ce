"""FlowLoss: the motion of denoised clips is compared with stored flow (arXiv 2504.14535).

The paper's term is w_ψ(σ)·λ(σ)·Σ o·‖f_stored − f_live‖² with w_ψ(σ) = σ_d²/(σ² + σ_d²) below the
gate ψ and 0 from there on, λ EDM's loss weight, and o = 1 where the pixel is visible in the true
clip and 0.3 elsewhere; it is stated for σ_d = 1. For every σ_d, w·λ = 1/σ², which is bounded here
by a floor under σ. The σ of a pair is the larger of its two slots' levels.
"""

import math
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from flow_cache import FlowEstimator
from flow_cache.estimators.compiled import compiled
from shards import UsageError
from trainer.config import FlowLossConfig
from trainer.stream.batch import FlowTargets
from trainer.terms.pairs import Pairs, pair_levels, take, upload
from trainer.terms.term import Chosen, Logs, Show, Step
from trainer.terms.weights import pixel_weight, sigma_weight

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

    Args:
        sigma_data: standard deviation of clean clips; the balance "w_ls" alone depends on it.

    Raises:
        UsageError: the estimator carries no gradients.
    """

    def __init__(
        self, config: FlowLossConfig, estimator: FlowEstimator, sigma_data: float = 1.0
    ) -> None:
        if not estimator.differentiable:
            raise UsageError(
                f"FlowLoss needs a flow estimator that carries gradients, {estimator.name!r} does "
                "not: set flow_loss.estimator to one that does, such as variational, or "
                "flow_loss.weight to 0"
            )
        self.config, self.sigma_data = config, sigma_data
        self.pair = compiled(estimator.pair) if config.compile else estimator.pair

    def __call__(self, step: Step) -> tuple[Float[Tensor, ""], Logs]:
        """The loss of one batch, and what metrics.jsonl says of it."""
        terms, hops = self.terms(step), None if step.targets is None else step.targets.hops
        return terms.loss, {
            "flow_loss": terms.loss.detach(),
            "flow_error": terms.error.mean() if len(terms.error) else math.nan,
            "gate": (step.levels < self.config.psi).float().mean(),
            "supervised": math.nan if hops is None else (hops > 0).float().mean(),
            "flow_lost": Chosen(names=pair_names(step, terms.pairs), where=~terms.sound),
        }

    def terms(self, step: Step) -> FlowTerms:
        """The loss of one batch, a constant 0 where no sample has targets."""
        if step.targets is None:
            return _nothing(step.clean, samples=0)
        level = pair_levels(step.levels, step.targets)
        weight = sigma_weight(level, self.config, self.sigma_data)
        return self._terms(step.clean, step.targets, weight, step.frames)

    @torch.no_grad()
    def bounds(self, step: Step) -> Logs:
        """The errors between which a model lies that moves at all: means over samples.

        `flow_floor`, of the true clips themselves, is what no model can go below: stored flow comes
        from the source video and is quantised, and the clips are compressed. `flow_still` is that
        of clips that stand still at their first frame.
        """
        if step.targets is None:
            return {}
        shown = {"flow_floor": step.true_frames, "flow_still": step.still_frames}
        every = torch.ones(step.targets.hops.shape)
        return {
            name: self._terms(step.clean, step.targets, every, show).error.mean()
            for name, show in shown.items()
        }

    def _terms(
        self, clean: Tensor, targets: FlowTargets, weight: Float[Tensor, "g n"], show: Show
    ) -> FlowTerms:
        """The terms of all pairs with a weight that are supervised; `weight` is on the CPU."""
        passed, heaviest = weight.any(dim=1), weight.amax(dim=1)
        pairs = take(weight > 0, targets, show)
        if pairs is None:
            return _nothing(clean, samples=int(passed.sum()))
        squares, sound = self._squares(pairs)
        # A pair's weight over the largest of its sample: exactly 1 where levels are equal.
        relative = weight[pairs.sample, pairs.pair] / heaviest[pairs.sample]
        relative, heaviest = (upload(x, clean.device) for x in (relative, heaviest[passed]))
        counts = torch.bincount(pairs.sample, minlength=len(weight))[passed].tolist()
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
        return FlowTerms(loss=loss, error=torch.stack(errors), pairs=pairs.slots, sound=sound)

    def _squares(self, pairs: Pairs) -> tuple[Float[Tensor, "n h w"], Bool[Tensor, " n"]]:
        """o·‖Δf‖² of each pixel of each pair, 0 where flow is not finite; and whether it is."""
        live = self.pair(pairs.first, pairs.second)
        sound = live.detach().isfinite().flatten(1).all(dim=1)
        for images in (pairs.first, pairs.second):
            if images.requires_grad:
                images.register_hook(partial(_where, sound, other=0.0))  # 0·NaN would be NaN
        distance = (_where(sound, live, pairs.flow) - pairs.flow).square().sum(dim=1)
        return distance * pixel_weight(pairs.visible, pairs.hops, self.config), sound

    def _reduced(self, squares: Tensor, pixels: Tensor) -> Tensor:
        """The paper's sum, or the mean over so many pixels."""
        if self.config.reduction == "sum":
            return SUM_SCALE * squares.sum()
        return squares.sum() / pixels.clamp(min=1)


def pair_names(step: Step, pairs: Int64[Tensor, "n 3"]) -> list[str]:
    """`KEY FIRST-SECOND` of pairs of slots, in stored frames of the clip."""
    return [
        f"{step.keys[row]} {shown[first]}-{shown[second]}"
        for row, first, second in pairs.tolist()
        for shown in (step.plans[row].src_index,)
    ]


def _nothing(clean: Tensor, *, samples: int) -> FlowTerms:
    """The terms where there is no pair to compare, in so many samples that passed the gate."""
    return FlowTerms(
        loss=clean.new_zeros(()),
        error=clean.new_zeros(samples),
        pairs=torch.zeros(0, 3, dtype=torch.int64),
        sound=torch.zeros(0, dtype=torch.bool, device=clean.device),
    )


def _where(sound: Tensor, values: Tensor, other: Tensor | float) -> Tensor:
    """The values of sound pairs; `other` for the rest."""
    return torch.where(sound[:, None, None, None], values, other)
