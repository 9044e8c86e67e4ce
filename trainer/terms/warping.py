"""The flow-guided loss of the article on temporal coherence, with the flow that fits its warp.

The article warps I_{t−1} by F_{t−1→t} and compares with I_t, hidden pixels included. To sample
I_{t−1} on the grid of I_t takes the flow that starts there, F_{t→t−1}; here it is the next frame
that is sampled, by the forward flow that layers hold, and only where its pixel is visible:

    Σ V·ρ(I_t − I_{t+1}(p + F_{t→t+1}(p))) / ΣV

The flow is stored, of the true clip and by any estimator; the frames are the model's.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from flow_cache import warp
from trainer.config import WarpingConfig
from trainer.stream.batch import FlowTargets
from trainer.terms.pairs import Pairs, pair_levels, take
from trainer.terms.term import Logs, Show, Step

SOFT = 0.01  # of the intensity range: where ρ turns from a square to an absolute value


class WarpingLoss:
    """The loss of the pairs below a gate on noise levels, which is FlowLoss's.

    Args:
        psi: the noise level from which on no pair counts; of its two levels the larger.
    """

    def __init__(self, config: WarpingConfig, psi: float) -> None:
        self.config, self.psi = config, psi

    def __call__(self, step: Step) -> tuple[Float[Tensor, ""], Logs]:
        """The loss of one batch: the mean over samples, of which those without pairs count 0."""
        zero = step.clean.new_zeros(())
        if step.targets is None:
            return zero, {"warping_loss": zero, "warping": torch.nan}
        level = pair_levels(step.levels, step.targets)
        each = self._each((level > 0) & (level < self.psi), step.targets, step.frames)
        if each is None:
            return zero, {"warping_loss": zero, "warping": torch.nan}
        loss = self.config.weight * each.sum() / len(step.clean)
        return loss, {"warping_loss": loss.detach(), "warping": each.detach().mean()}

    @torch.no_grad()
    def bounds(self, step: Step) -> Logs:
        """`warping_floor`, of the true clips: their flow is off a little, and light changes."""
        if step.targets is None:
            return {}
        each = self._each(step.targets.hops > 0, step.targets, step.true_frames)
        return {} if each is None else {"warping_floor": each.mean()}

    def _each(self, wanted: Tensor, targets: FlowTargets, show: Show) -> Float[Tensor, " n"] | None:
        """Σ Vρ/ΣV of each sample that has wanted pairs, 0 where nothing is visible."""
        pairs = take(wanted, targets, show)
        if pairs is None:
            return None
        penalties = self._penalties(pairs)
        counts = pairs.sample.unique(return_counts=True)[1].tolist()
        return torch.stack(
            [
                penalty.sum() / visible.sum().clamp(min=1)
                for penalty, visible in zip(
                    penalties.split(counts), pairs.visible.split(counts), strict=True
                )
            ]
        )

    def _penalties(self, pairs: Pairs) -> Float[Tensor, "n h w"]:
        """V·ρ of each pixel: mean over channels, intensities in [0, 1]."""
        # What is hidden may have any flow, and 0 times its gradient has to be 0.
        flow = torch.where(pairs.visible[:, None], pairs.flow, 0.0)
        squares = (pairs.first - warp(pairs.second, flow)).square()
        if self.config.penalty == "charbonnier":
            squares = (squares + SOFT**2).sqrt() - SOFT
        return torch.where(pairs.visible, squares.mean(dim=1), 0.0)
