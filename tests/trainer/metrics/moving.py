"""Clips of known motion for the tests of this room, and an estimator that knows it."""

from collections.abc import Sequence
from typing import ClassVar, NoReturn

import torch
from torch import Tensor

from flow_cache.spec import JSON, Pair

MOTION = (3, 1)  # pixels a frame, to the right and down


def moving(slots: int = 4, size: tuple[int, int] = (48, 64), seed: int = 0) -> Tensor:
    """A clip [1, t, 3, h, w] of a smooth texture that moves as a whole, new at two of its edges."""
    (height, width), (dx, dy) = size, MOTION
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 12, 16, generator=generator)
    whole = (height + slots * dy, width + slots * dx)
    canvas = torch.nn.functional.interpolate(coarse, whole, mode="bilinear")[0]
    frames = [
        canvas[:, (slots - t) * dy :, (slots - t) * dx :][:, :height, :width] for t in range(slots)
    ]
    return torch.stack(frames)[None]


def frozen(clips: Tensor) -> Tensor:
    """Clips that stand still at their first frame."""
    return clips[:, :1].expand_as(clips).clone()


class Known:
    """An estimator that answers each call with `MOTION`, and every second one with its reverse."""

    name, revision, weights_sha256 = "known", "1", None
    params: ClassVar[dict[str, JSON]] = {}
    differentiable, whole_clip = False, False

    def __init__(self) -> None:
        self.sign = 1.0

    def check_size(self, size: tuple[int, int]) -> None:
        pass

    def clip(self, frames: Tensor, pairs: Sequence[Pair]) -> NoReturn:
        raise AssertionError("figures take pairs of frames in [0, 1]")

    def pair(self, first: Tensor, second: Tensor) -> Tensor:
        flow = self.sign * torch.tensor(MOTION).float().view(1, 2, 1, 1)
        self.sign = -self.sign
        return flow.expand(len(first), -1, *first.shape[-2:])
