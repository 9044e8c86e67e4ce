"""What a network is told of clips beside their pixels, levels and times."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Context:
    """Conditions of the clips of a batch. A clip without any is one of an empty text, label -1.

    Attributes:
        states: of a text encoder, for each place of the caption; zeros where the mask is False.
        mask: True where there is text; goes with the states.
        labels: class numbers; -1: none.
    """

    states: Float[Tensor, "b l d"] | None = None
    mask: Bool[Tensor, "b l"] | None = None
    labels: Int64[Tensor, " b"] | None = None

    def __post_init__(self) -> None:
        if (self.states is None) != (self.mask is None):
            raise ValueError("text states and their mask go together: give both or neither")

    def to(self, device: torch.device) -> "Context":
        """The same on `device`; copies from pinned memory do not block."""
        parts = (self.states, self.mask, self.labels)
        states, mask, labels = (
            None if part is None else part.to(device, non_blocking=True) for part in parts
        )
        return Context(states=states, mask=mask, labels=labels)
