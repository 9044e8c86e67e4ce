"""The pairs of slots that a term with a gate looks at, chosen on the CPU: no step waits for that.

Noise levels are drawn there, and `FlowTargets` keeps there what says which pairs there are.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from trainer.process.pyramid import Levels
from trainer.stream.batch import FlowTargets
from trainer.terms.term import Show


def pair_levels(levels: Levels, targets: FlowTargets) -> Float[Tensor, "g n"]:
    """The noise level of each pair: the larger of its two slots'."""
    return levels.cpu()[targets.rows[:, None, None], targets.slots].amax(dim=2)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Pairs:
    """Pairs that are looked at, of samples in rising order.

    Attributes:
        sample, pair: the place of each in the targets' `[g, n]`; on the CPU.
        slots: (sample of the batch, first slot, second slot) of each; on the CPU.
        first, second: their clean frames, in [0, 1].
        flow, visible, hops: what is stored of them, on the targets' device.
    """

    sample: Int64[Tensor, " n"]
    pair: Int64[Tensor, " n"]
    slots: Int64[Tensor, "n 3"]
    first: Float[Tensor, "n 3 h w"]
    second: Float[Tensor, "n 3 h w"]
    flow: Float[Tensor, "n 2 h w"]
    visible: Bool[Tensor, "n h w"]
    hops: Int64[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.sample)


def take(wanted: Bool[Tensor, "g n"], targets: FlowTargets, show: Show) -> Pairs | None:
    """The wanted pairs that stored flow supervises; None if there are none, and then none is shown.

    Args:
        wanted: on the CPU.
        show: asked only for the samples that have such pairs.
    """
    sample, pair = (wanted & (targets.hops > 0)).nonzero(as_tuple=True)
    if not len(sample):
        return None
    slots = torch.column_stack([targets.rows[sample], targets.slots[sample, pair]])
    rows, shown = slots[:, 0].unique(return_inverse=True)
    clips = show(rows.tolist())
    frames, device = clips.flatten(0, 1), clips.device
    source, target = (shown * clips.shape[1] + slots[:, side] for side in (1, 2))
    place, hops = sample * targets.hops.shape[1] + pair, targets.hops[sample, pair]
    source, target, place, hops = upload(torch.stack([source, target, place, hops]), device)
    first, second = (frames.index_select(0, index) for index in (source, target))
    flow, visible = (
        x.flatten(0, 1).index_select(0, place) for x in (targets.flow, targets.visible)
    )
    return Pairs(
        sample=sample,
        pair=pair,
        slots=slots,
        first=first,
        second=second,
        flow=flow,
        visible=visible,
        hops=hops,
    )


def upload(values: Tensor, device: torch.device) -> Tensor:
    """On the device, without waiting for it: from pinned memory copies are queued like kernels."""
    if device.type == "cuda":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)
