"""What a term is, and what it may look at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from trainer.codec.pixels import to_unit
from trainer.process.pyramid import Levels
from trainer.stream.batch import FlowTargets
from trainer.temporal.plan import TemporalPlan

Logs = dict[str, Any]
"""Figures for metrics.jsonl; tensors stay where they are until lines are written."""

Show = Callable[[Sequence[int]], Float[Tensor, "n t 3 h w"]]
"""Frames in [0, 1] of so many clips of a batch."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Chosen:
    """Those of some names for which a mask on a device is True; becomes a list of them."""

    names: Sequence[str]
    where: Bool[Tensor, " n"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Step:
    """One batch as the model restored it. What a term does not use need not be given.

    Attributes:
        clean: the model's clean estimate, in slot order, as the network sees clips. For a pyramid
            stage, the stage's clean clip and not the prediction. Of l latents, where they hold
            several slots each.
        levels: the noise level of each slot; on the CPU, from elsewhere they are fetched.
        targets: stored motion of some or all samples; None where nobody wants it.
        true: the clips that were noised, RGB.
        plans, keys: of each sample.
        decode: from what the network sees to frames in [0, 1], differentiable.
    """

    clean: Float[Tensor, "b l c latent_h latent_w"]
    levels: Levels
    targets: FlowTargets | None = None
    true: UInt8[Tensor, "b t 3 h w"] | None = None
    plans: tuple[TemporalPlan, ...] = ()
    keys: tuple[str, ...] = ()
    decode: Callable[[Tensor], Tensor] = to_unit
    _decoded: dict[int, Tensor] = field(default_factory=dict, init=False, repr=False)

    def frames(self, rows: Sequence[int]) -> Float[Tensor, "n t 3 h w"]:
        """Clean frames of some samples, with their gradient; each sample is decoded only once."""
        if missing := [row for row in rows if row not in self._decoded]:
            # Rows are picked as views: an index would be uploaded, and waited for.
            latents = torch.stack([self.clean[row] for row in missing])
            self._decoded.update(zip(missing, self.decode(latents.float()), strict=True))
        return torch.stack([self._decoded[row] for row in rows])

    def true_frames(self, rows: Sequence[int]) -> Float[Tensor, "n t 3 h w"]:
        """The frames of the clips themselves."""
        if self.true is None:
            raise ValueError("this Step was made without the true frames, which are asked for")
        return torch.stack([self.true[row] for row in rows]).float() / 255

    def still_frames(self, rows: Sequence[int]) -> Float[Tensor, "n t 3 h w"]:
        """Clips that stand still at their first slot's frame."""
        frames = self.true_frames(rows)
        return frames[:, :1].expand_as(frames)


class Term(Protocol):
    """A loss beside the reconstruction."""

    def __call__(self, step: Step) -> tuple[Float[Tensor, ""], Logs]:
        """What to add to the objective, weighted, and figures of it."""

    def bounds(self, step: Step) -> Logs:
        """What the figures are for the truth, or for standing still; {} where that says nothing.

        Costs as much as a step of the term: asked once a run.
        """
