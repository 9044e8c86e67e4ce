"""Classifier-free guidance (arXiv 2207.12598): conditions, and what they change, exaggerated."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from shards import UsageError
from trainer.model.context import Context
from trainer.process.process import Network


@dataclass(frozen=True, slots=True)
class Guided:
    """A network whose answer is F₀ + scale·(F − F₀), with F₀ the one without conditions.

    q is skip·x + out·F, so that is what becomes of q as well. Both come of one call.

    Attributes:
        network: that was trained with conditions left out now and then.
        scale: 1 would be the network itself.
    """

    network: Network
    scale: float

    def __call__(
        self, x: Tensor, conditioning: Tensor, time: Tensor, context: Context | None
    ) -> Tensor:
        """As the network's, of clips that each have a condition.

        Raises:
            UsageError: there are none.
        """
        if context is None:
            raise UsageError(
                f"guidance {self.scale} has nothing to guide to: give a text or a class, or "
                "leave guidance at 1"
            )
        both = self.network(twins(x), twins(conditioning), time, with_none(context))
        given, without = both.chunk(2)
        return torch.lerp(without, given, self.scale)


def guided(network: Network, scale: float) -> Network:
    """The network under guidance; itself where the scale is 1."""
    return network if scale == 1 else Guided(network, scale)


def twins(x: Tensor) -> Tensor:
    """[2b, ...]: all clips, and all again."""
    return torch.cat([x, x])


def with_none(context: Context) -> Context:
    """The conditions of b clips, and for another b that there are none: no text, label −1."""
    states, mask, labels = context.states, context.mask, context.labels
    return replace(
        context,
        states=None if states is None else torch.cat([states, torch.zeros_like(states)]),
        mask=None if mask is None else torch.cat([mask, torch.zeros_like(mask)]),
        labels=None if labels is None else torch.cat([labels, torch.full_like(labels, -1)]),
    )
