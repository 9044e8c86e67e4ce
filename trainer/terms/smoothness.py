"""Smoothness in time, in the two forms of the article on temporal coherence, which are two losses.

Its formula is Σ_t ‖z_t − z_{t−1}‖² + α·Σ_t ‖∇_t z_t‖²: squares, summed over all elements. Read to
the letter ∇_t z_t is z_t − z_{t−1} again, so that the second term is the first once more. Its code
takes means of absolute values, of the first difference and of the second. Either is least for a
clip that stands still: read it beside a figure of motion.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from shards import UsageError
from trainer.config import SmoothnessConfig
from trainer.process.pyramid import Clips
from trainer.terms.term import Logs, Step


class Smoothness:
    """The loss on what the network sees, in the order of the frames that FluxFlow shuffled."""

    def __init__(self, config: SmoothnessConfig) -> None:
        self.config = config

    def __call__(self, step: Step) -> tuple[Float[Tensor, ""], Logs]:
        """The loss of one batch, at every noise level alike; mean over samples.

        Raises:
            UsageError: slots of a shuffled clip share latents, which no order can put right.
        """
        form = formula if self.config.form == "formula" else code
        value = form(in_order(step), self.config.alpha).mean()
        loss = self.config.weight * value
        return loss, {"smoothness_loss": loss.detach(), "smoothness": value.detach()}

    def bounds(self, step: Step) -> Logs:
        """Nothing: its least value, 0, is a still clip's."""
        return {}


def formula(clips: Clips, alpha: float) -> Float[Tensor, " b"]:
    """(1 + α)·Σ_t ‖z_t − z_{t−1}‖² of each clip: the article's text, both of its terms alike."""
    squares = clips.diff(dim=1).square().flatten(1).sum(1)
    return squares + alpha * squares


def code(clips: Clips, alpha: float) -> Float[Tensor, " b"]:
    """mean |z_t − z_{t−1}| + α·mean |z_{t+1} − 2z_t + z_{t−1}| of each clip: the article's code.

    A mean over no slots is 0: a clip of two has no second difference.
    """
    first = clips.diff(dim=1)
    return _mean(first.abs()) + alpha * _mean(first.diff(dim=1).abs())


def in_order(step: Step) -> Clips:
    """The clean estimate with the slots in the order of their frames."""
    moved = [plan for plan in step.plans if plan.moved]
    if not moved:
        return step.clean
    if step.clean.shape[1] != len(moved[0]):
        raise UsageError(
            f"smoothness.weight is above 0 and FluxFlow shuffles clips of {len(moved[0])} frames "
            f"that the codec makes {step.clean.shape[1]} latents of: they cannot be put in order. "
            "Set smoothness.weight to 0 or fluxflow.mode to off, or use a codec of single frames"
        )
    rows = [
        torch.stack([clip[slot] for slot in plan.restore.tolist()])
        for clip, plan in zip(step.clean, step.plans, strict=True)
    ]
    return torch.stack(rows)


def _mean(values: Clips) -> Float[Tensor, " b"]:
    return values.flatten(1).sum(1) / max(values[0].numel(), 1)
