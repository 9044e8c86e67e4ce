"""Variational flow in PyTorch: no weights, CPU and GPU, differentiable.

Coarse-to-fine warping (Brox et al., ECCV 2004) over a pyramid of halved images: at each level
better candidates are fused in, then the data term is linearised a few times and the flow relaxed,
at coarse levels towards a slant, and median filtered (Sun et al., CVPR 2010).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from flow_cache.estimators.base import check_at_least, zero_if_still
from flow_cache.estimators.variational.constancy import linearise, temporal_change
from flow_cache.estimators.variational.fusion import fuse
from flow_cache.estimators.variational.parallel import spread, spread_with_gradient
from flow_cache.estimators.variational.relaxation import assemble, relax, smoothness
from flow_cache.estimators.variational.slant import Slant, at_twice, measure
from flow_cache.estimators.variational.stencils import (
    Plane,
    box,
    double_flow,
    halve,
    median,
    sample,
    smooth,
)
from flow_cache.field import Flow, Frames, Images
from flow_cache.spec import JSON, Pair

COARSEST = 6  # pixels: levels are added while the smaller side stays above
LARGEST_CHANGE = 2.0  # pixels a single update may move
BATCH = 16  # pairs solved at once on a CPU, bounds memory
BATCHED_PIXELS = 2**24  # of pairs solved at once elsewhere, bounds memory: some 3 GB
CACHED_PIXELS = 2**18  # solved at once on a CPU
EVEN_SCORE = 20.0  # of confidence one half, about the median over natural pictures


@dataclass(frozen=True, kw_only=True, slots=True)
class Effort:
    """What is done at one pyramid level.

    Attributes:
        updates: linearisations.
        sweeps: of the relaxation after each.
        fuse: take over better candidates first, also from pixels so far off; none: do not.
        search: block matching is one of these.
        slanted: smooth towards a slant instead of towards no difference.
        measure: the slant, before each update; else it is the next coarser level's.
    """

    updates: int
    sweeps: int
    fuse: tuple[int, ...] = ()
    search: bool = False
    slanted: bool = True
    measure: bool = False


COARSE = Effort(updates=3, sweeps=20, measure=True)
SCHEDULE = (  # finest level first; COARSE beyond
    Effort(updates=1, sweeps=8, slanted=False),
    Effort(updates=2, sweeps=12, slanted=False, fuse=(2,)),
    Effort(updates=3, sweeps=20, fuse=(4, 2), search=True),  # small fast objects
    COARSE,
    replace(COARSE, fuse=(4, 2), search=True),  # whole pictures; smaller ones match anything
)


@dataclass(frozen=True, kw_only=True, slots=True)
class VariationalFlow:
    """Differentiable flow without weights.

    The gradient is that of the last update with respect to the difference of the images; its
    linearisation, its outliers and the coarser levels are held. That is exact where the flow has
    converged and the images agree, and the backward pass costs little more than a relaxation.
    """

    name: ClassVar[str] = "variational"
    revision: ClassVar[str] = "2"
    weights_sha256: ClassVar[None] = None
    differentiable: ClassVar[bool] = True
    whole_clip: ClassVar[bool] = False

    @property
    def params(self) -> dict[str, JSON]:
        return {}

    def check_size(self, size: tuple[int, int]) -> None:
        check_at_least(size, 32, "variational")

    @torch.no_grad()
    def clip(self, frames: Frames, pairs: Sequence[Pair]) -> tuple[Flow, None]:
        self.check_size((frames.shape[-2], frames.shape[-1]))
        levels = pyramids(frames)

        def flow_of(index: Tensor) -> Tensor:
            return estimate([x[index[:, 0]] for x in levels], [x[index[:, 1]] for x in levels])

        index = torch.tensor(pairs, dtype=torch.long, device=frames.device).view(-1, 2)
        nothing = frames.new_zeros(0, 2, *frames.shape[-2:], dtype=torch.float32)
        return torch.cat([nothing, *spread(flow_of, index, largest=_at_once(frames))]), None

    def pair(self, first: Images, second: Images) -> Flow:
        self.check_size((first.shape[-2], first.shape[-1]))

        def flow_of(first: Tensor, second: Tensor) -> Tensor:
            return estimate(pyramids(first), pyramids(second))

        if not len(first):
            return first.new_zeros(0, 2, *first.shape[-2:], dtype=torch.float32)
        return spread_with_gradient(flow_of, first, second, largest=_at_once(first))

    @torch.no_grad()
    def confidence(self, first: Images, second: Images, flow: Flow) -> Float[Tensor, "n h w"]:
        """How far to trust `pair`'s flow, in [0, 1).

        High where the images determine both components (the smaller eigenvalue of the data term,
        about determinant over trace), agree there, and the flow is smooth: means over 5x5 pixels.
        """
        a, b = pyramids(first)[0], pyramids(second)[0]
        warped, outside = sample(b, flow, "bicubic")
        data = linearise(a, warped, outside, temporal_change(a, warped))
        determined = (data.a11 * data.a22 - data.a12 * data.a12) / (data.a11 + data.a22 + 1e-6)
        right, below = smoothness(flow)
        score = box(determined, 2) * box(right + below, 2) / 25**2
        return (score / (score + EVEN_SCORE)).squeeze(1)


def pyramids(rgb: Shaped[Tensor, "t 3 h w"]) -> list[Float[Tensor, "t 1 _h _w"]]:
    """Smoothed grey images of uint8 or [0, 1] frames, finest first."""
    parts = spread(_pyramid, rgb, largest=_cached(rgb))
    return [torch.cat(level) for level in zip(*parts, strict=True)]


def _pyramid(rgb: Tensor) -> list[Tensor]:
    frames = rgb.float() if rgb.is_floating_point() else rgb.float() / 255
    red, green, blue = frames.split(1, 1)
    levels = [smooth(0.299 * red + 0.587 * green + 0.114 * blue)]
    while min(levels[-1].shape[-2:]) >= 2 * COARSEST:
        levels.append(halve(levels[-1].detach()))
    return levels


def estimate(
    first: Sequence[Float[Tensor, "n 1 _h _w"]], second: Sequence[Float[Tensor, "n 1 _h _w"]]
) -> Flow:
    """Flow between two pyramids; gradient reaches their finest level."""
    with torch.no_grad():
        nothing = torch.zeros_like(halve(first[-1]))
        flow, slant = nothing.expand(-1, 2, -1, -1), nothing.expand(-1, 4, -1, -1)
        for i in reversed(range(1, len(first))):
            effort = SCHEDULE[i] if i < len(SCHEDULE) else COARSE
            flow, slant = solve(first[i], second[i], flow, slant, effort)
    return solve(first[0], second[0], flow, slant, SCHEDULE[0])[0]


def solve(
    first: Plane,
    second: Plane,
    coarse: Float[Tensor, "n 2 half_h half_w"],
    slant: Float[Tensor, "n 4 _h _w"],
    effort: Effort,
) -> tuple[Flow, Float[Tensor, "n 4 _h _w"]]:
    """The flow and the slant of one level from those of the next coarser one.

    A level that is not slanted leaves the slant as it came.
    """
    portions = zip(*(x.split(_cached(first)) for x in (first, second, coarse, slant)), strict=True)
    flows, slants = zip(
        *(_solve(a, b, up, tilt, effort) for a, b, up, tilt in portions), strict=True
    )
    return torch.cat(flows), torch.cat(slants)


def _at_once(pictures: Tensor) -> int:
    """How many pairs to solve together; an accelerator wants as many as fit, in few kernels."""
    if pictures.device.type == "cpu":
        return BATCH
    return max(BATCH, BATCHED_PIXELS // (pictures.shape[-1] * pictures.shape[-2]))


def _cached(pictures: Tensor) -> int:
    """How many pictures to work on at once, so that they stay in the processor's cache."""
    at_once = max(1, CACHED_PIXELS // (pictures.shape[-1] * pictures.shape[-2]))
    return at_once if pictures.device.type == "cpu" else max(1, len(pictures))


def _solve(
    first: Tensor, second: Tensor, coarse: Tensor, slant: Tensor, effort: Effort
) -> tuple[Tensor, Tensor]:
    flow = double_flow(coarse, (first.shape[-2], first.shape[-1]))
    if effort.fuse:
        flow = fuse(first, second, flow, effort.fuse, searching=effort.search)
    if effort.slanted:
        slant = at_twice(slant, (first.shape[-2], first.shape[-1]))
    for _ in range(effort.updates):
        held = flow.detach()
        if effort.measure:
            slant = measure(
                held, slant, smoothness(held, slant), sample(second, held, "bilinear")[1]
            )
        expected = slant if effort.slanted else None
        flow = _Cleaned.apply(update(first, second, held, effort.sweeps, expected), held)
    return zero_if_still(flow, first, second), slant


def update(
    first: Plane, second: Plane, flow: Flow, sweeps: int, slant: Slant | None = None
) -> Flow:
    """Linearise at `flow`, relax; the gradient passes through the temporal change alone."""
    warped, outside = sample(second, flow, "bicubic")
    change = temporal_change(first, warped)
    data = linearise(first.detach(), warped.detach(), outside, change.detach())
    u, v = flow.split(1, 1)
    held = torch.cat([data.a11 * u + data.a12 * v, data.a12 * u + data.a22 * v], 1)
    system = assemble(data, flow, slant)
    if system.lean is not None:
        held = held + system.lean
    return relax(system, held + data.right_side(change), flow, sweeps)


class _Cleaned(torch.autograd.Function):
    """A solution without its outliers: the change is limited, then the flow median filtered.

    The gradient passes unchanged, as if what was taken off were a constant.
    """

    @staticmethod
    def forward(ctx: Any, solution: Tensor, flow: Tensor) -> Tensor:
        return median(flow + (solution - flow).clamp_(-LARGEST_CHANGE, LARGEST_CHANGE))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None
