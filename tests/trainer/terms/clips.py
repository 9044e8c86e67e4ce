"""Clips and stored motion for the tests of this room."""

import torch
from torch import Tensor

from trainer.stream.batch import FlowTargets
from trainer.terms.flowloss import FlowLoss, FlowTerms
from trainer.terms.term import Step


def targets_of(flow: Tensor, visible: Tensor) -> FlowTargets:
    """Targets of in-order neighbours, flow [g, n, 2, h, w]."""
    samples, pairs = flow.shape[:2]
    slots = torch.stack([torch.arange(pairs), torch.arange(1, pairs + 1)], -1)
    return FlowTargets(
        rows=torch.arange(samples),
        slots=slots.expand(samples, -1, -1),
        hops=torch.ones(samples, pairs, dtype=torch.int64),
        flow=flow,
        visible=visible,
    )


def still(samples: int, pairs: int, size: tuple[int, int] = (8, 8)) -> tuple[Tensor, FlowTargets]:
    """Clips, and stored flow that says nothing moves in them."""
    clips = torch.zeros(samples, pairs + 1, 3, *size, requires_grad=True)
    flow = torch.zeros(samples, pairs, 2, *size)
    return clips, targets_of(flow, torch.ones_like(flow[:, :, 0], dtype=torch.bool))


def rows(clips: Tensor, *sigma: float) -> Tensor:
    """Levels [b, t]: one for each clip, in all of its slots."""
    return torch.tensor(sigma).expand(len(clips))[:, None].repeat(1, clips.shape[1])


def judge(loss: FlowLoss, clips: Tensor, levels: Tensor, targets: FlowTargets | None) -> FlowTerms:
    """The loss of clips that are scaled as by `to_signal`."""
    return loss.terms(Step(clean=clips, levels=levels, targets=targets))


def pixels(clips: Tensor) -> Tensor:
    """The frames that such clips were made of."""
    return (clips * 128 + 127.5).round().byte()
