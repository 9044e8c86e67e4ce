"""The one loop of sampling, which follows the rows of a schedule.

Inside a stage the network answers with q, the point that the stage's straight line aims at; a step
to the stage's end arrives at the end's own point, which lies on that line (`process.pyramid`).
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from shards import UsageError
from trainer.model.context import Context
from trainer.process.noise import noise_like
from trainer.process.process import Clips, Coefficients, Network, Process, Times, denoise, each
from trainer.process.solver import change
from trainer.sample.guidance import guided
from trainer.sample.renoise import Coarse, Fine, Renoise, opposite, refine
from trainer.sample.schedule import Row, Schedule

Noise = Callable[[str, int], Clips]
"""noise(purpose, slots): unit normal clips [b, slots, c, h, w]."""


def noise_of(
    shape: tuple[int, int, int], seed: int, positions: Sequence[int], device: torch.device
) -> Noise:
    """Noise that is a function of (seed, position, purpose) for each clip.

    Args:
        shape: channels, height and width of a slot.
        positions: which clips they are; a clip is the same in any company, but for rounding.
    """

    def noise(purpose: str, slots: int) -> Clips:
        empty = torch.empty(len(positions), slots, *shape, device=device)
        return noise_like(empty, seed, positions, purpose)

    return noise


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sampler:
    """A network, and how it is asked.

    Attributes:
        network: in evaluation mode.
        process: that it was trained with.
        time: when each slot of the full rate is shown, in such slots; on the network's device.
        context: what the network is told beside the levels, of every clip.
        guidance: scale of classifier-free guidance; 1 is without, at half the cost.
        heun: steps of the second order, with two evaluations each; else Euler's, which are DDIM's.
        bf16: the network computes in bfloat16, the steps in float32 all the same.
        renoise: from stage to stage; other than paired, only to see what that is good for.
    """

    network: Network
    process: Process
    time: Times
    context: Context | None = None
    guidance: float = 1.0
    heun: bool = False
    bf16: bool = False
    renoise: Renoise = "paired"

    def sample(self, rows: Schedule, noise: Noise, clean: Clips | None = None) -> Clips:
        """Clips [b, t, c, h, w] from noise; see `follow`."""
        return deque(self.follow(rows, noise, clean), maxlen=1).pop()

    @torch.no_grad()
    def follow(self, rows: Schedule, noise: Noise, clean: Clips | None = None) -> Iterator[Clips]:
        """The noisy clips after each row, at its stage's rate; the last are clean.

        Args:
            noise: in float32.
            clean: clips whose given slots are known; they come out to the last bit.

        Raises:
            UsageError: slots are given, and the network takes one level for the whole clip.
        """
        check_levels(self.network, rows)
        x = noise("start", len(rows[0].here))
        ended = self._at(rows[0].here, x)
        x = each((ended.gamma**2 + ended.sigma**2).sqrt()) * x  # as of clips of unit variance
        for row in rows:
            if row.renoise:
                x = refine(x, self._extra(noise, row, x), ended, self._at(row.here, x))
            x = with_given(self._step(with_given(x, clean, row), row), clean, row)
            ended = self._at(row.there, x)
            yield x

    def _step(self, x: Clips, row: Row) -> Clips:
        """Euler's step or, with the mean of the changes at both its ends, Heun's."""
        here, there = self._at(row.here, x), self._at(row.there, x)
        network = guided(self.network, self.guidance)
        time = self.time[: len(row.here)] * row.stage.stride

        def changed(x: Clips, at: Coefficients) -> Clips:
            with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
                q = denoise(network, x, at, time, self.context)
            return change(x, q, here, there, at)

        first = changed(x, here)
        if not self.heun or not row.there.any():
            return x + first
        second = changed(x + first, there)
        return x + torch.where(each(there.sigma > 0), (first + second) / 2, first)

    def _at(self, levels: Float64[np.ndarray, " t"], x: Tensor) -> Coefficients:
        """The process at the levels of a row, for every clip."""
        row = torch.as_tensor(levels, dtype=x.dtype, device=x.device)
        return self.process.coefficients(row.expand(len(x), -1))

    def _extra(self, noise: Noise, row: Row, x: Coarse) -> Fine:
        """What is added between stages, of unit variance."""
        purpose, slots = f"stage {row.stage.number}", len(row.here)
        if self.renoise == "independent":
            return noise(purpose, slots)
        z = noise(purpose, x.shape[1])
        return opposite(z if self.renoise == "paired" else torch.zeros_like(z), slots)


def with_given(x: Clips, clean: Float[Tensor, "_ _ c h w"] | None, row: Row) -> Clips:
    """The given slots as they are known."""
    if not row.given.any():
        return x
    if clean is None:
        raise ValueError(
            f"slots {np.flatnonzero(row.given)} are given, but no clips to take them of"
        )
    given = torch.as_tensor(row.given, device=x.device)
    return torch.where(given[:, None, None, None], clean[:, :: row.stage.stride], x)


def check_levels(network: Any, rows: Schedule) -> None:
    """Refuse rows whose slots differ in level where the network's attribute `per_slot` is False.

    Raises:
        UsageError: it is.
    """
    if getattr(network, "per_slot", True):
        return
    if any(row.given.any() or len(set(row.here.tolist())) > 1 for row in rows):
        name = getattr(network, "name", type(network).__name__)
        raise UsageError(
            f"{name} takes one noise level for a whole clip, so no frame of it can be given: "
            "sample without, or train a network with a level for each slot"
        )
