"""Variational flow in PyTorch: no weights, CPU and GPU, differentiable.

Coarse-to-fine warping with brightness and gradient constancy and robust, edge-preserving
smoothness (Brox et al., ECCV 2004; normalisation of the data terms as in Zimmer et al., IJCV
2011). Each level linearises the data term a few times and solves for the update by relaxation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from flow_cache.estimators.base import Json, Pair, check_at_least

PYRAMID_SCALE, COARSEST = 0.75, 16
WARPS, SWEEPS = 3, 20
BATCH = 16  # pairs solved at once, bounds memory


@dataclass(frozen=True, kw_only=True, slots=True)
class VariationalFlow:
    """Differentiable flow without weights; the gradient is that of the last update."""

    name: ClassVar[str] = "variational"
    revision: ClassVar[str] = "1"
    weights_sha256: ClassVar[None] = None
    differentiable: ClassVar[bool] = True
    whole_clip: ClassVar[bool] = False

    @property
    def params(self) -> dict[str, Json]:
        return {}

    def check_size(self, size: tuple[int, int]) -> None:
        check_at_least(size, 32, "variational")

    @torch.no_grad()
    def clip(self, frames: Tensor, pairs: Sequence[Pair]) -> tuple[Tensor, None]:
        self.check_size((frames.shape[-2], frames.shape[-1]))
        grey = _grey(frames.float() / 255)
        flow = [grey.new_zeros(0, 2, *grey.shape[-2:])]
        for start in range(0, len(pairs), BATCH):
            source, target = map(list, zip(*pairs[start : start + BATCH], strict=True))
            flow.append(estimate(grey[source], grey[target]))
        return torch.cat(flow), None

    def pair(self, first: Tensor, second: Tensor) -> Tensor:
        self.check_size((first.shape[-2], first.shape[-1]))
        return estimate(_grey(first.float()), _grey(second.float()))


def estimate(first: Tensor, second: Tensor) -> Tensor:
    """Flow [b, 2, h, w] between grey images [b, 1, h, w] in [0, 1]."""
    first, second = _smooth(first), _smooth(second)
    still = (first == second).flatten(1).all(1).view(-1, 1, 1, 1)
    with torch.no_grad():
        flow = first.new_zeros(first.shape[0], 2, 1, 1)
        for size in _sizes(first.shape[-2:]):
            a, b = (_resize(x, size) for x in (first, second))
            flow = _resize_flow(flow, size)
            for _ in range(WARPS):
                previous, flow = flow, update(a, b, flow)
    if torch.is_grad_enabled() and (first.requires_grad or second.requires_grad):
        flow = update(first, second, previous)
    return flow.masked_fill(still, 0)


def update(first: Tensor, second: Tensor, flow: Tensor) -> Tensor:
    """One warping step: linearise both constancy assumptions at `flow`, relax the update."""
    data = _data_term(first, second, flow)
    x, y = _diffusivity(flow)
    left, up = F.pad(x, (1, 0))[..., :-1], F.pad(y, (0, 0, 1, 0))[..., :-1, :]
    total = x + left + y + up
    a11, a12, a22, b1, b2 = data
    a11, a22 = a11 + total, a22 + total
    determinant = a11 * a22 - a12 * a12
    step = torch.zeros_like(flow)
    for _ in range(SWEEPS):
        f = flow + step
        pull = x * _shift(f, 0, 1) + left * _shift(f, 0, -1)
        pull = pull + y * _shift(f, 1, 0) + up * _shift(f, -1, 0) - total * flow
        c1, c2 = (b + p for b, p in zip((b1, b2), pull.split(1, 1), strict=True))
        step = torch.cat([a22 * c1 - a12 * c2, a11 * c2 - a12 * c1], 1) / determinant
    return flow + step.clamp(-2, 2)


def _data_term(first: Tensor, second: Tensor, flow: Tensor) -> tuple[Tensor, ...]:
    """Motion tensor (a11, a12, a22) and right side (b1, b2) of the linearised constancies."""
    ax, ay = _gradient(first)
    bx, by = _gradient(second)
    bxx, bxy = _gradient(bx)
    _, byy = _gradient(by)
    warped, inside = _warp(torch.cat([second, bx, by, bxx, bxy, byy], 1), flow)
    b, bx, by, bxx, bxy, byy = warped.split(1, 1)
    rows = (((ax + bx) / 2, (ay + by) / 2, b - first), (bxx, bxy, bx - ax), (bxy, byy, by - ay))
    norm = [p * p + q * q + 4e-4 for p, q, _ in rows]
    error = [r * r / n for (_, _, r), n in zip(rows, norm, strict=True)]
    brightness = 0.3 * inside / (error[0] + 1e-6).sqrt() / norm[0]
    gradient = 3.0 * inside / (error[1] + error[2] + 1e-6).sqrt()
    weight = (brightness, gradient / norm[1], gradient / norm[2])
    weighted = [(w * p, w * q, p, q, r) for w, (p, q, r) in zip(weight, rows, strict=True)]
    a11, a12, a22, b1, b2 = (
        sum((fn(*row) for row in weighted), start=torch.zeros_like(b))
        for fn in (
            lambda wp, wq, p, q, r: wp * p,
            lambda wp, wq, p, q, r: wp * q,
            lambda wp, wq, p, q, r: wq * q,
            lambda wp, wq, p, q, r: -wp * r,
            lambda wp, wq, p, q, r: -wq * r,
        )
    )
    return a11, a12, a22, b1, b2


def _diffusivity(flow: Tensor) -> tuple[Tensor, Tensor]:
    """Smoothness weights between a pixel and its right and lower neighbour."""
    dx, dy = _shift(flow, 0, 1) - flow, _shift(flow, 1, 0) - flow
    weight = 0.3 / ((dx * dx + dy * dy).sum(1, keepdim=True) + 1e-6).sqrt()
    x = F.pad((weight + _shift(weight, 0, 1))[..., :-1] / 2, (0, 1))
    y = F.pad((weight + _shift(weight, 1, 0))[..., :-1, :] / 2, (0, 0, 0, 1))
    return x, y


def _warp(image: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """The image sampled at p + flow(p), and 1 where that lies in the frame, else 0."""
    h, w = flow.shape[-2:]
    x = torch.arange(w, device=flow.device) + flow[:, 0]
    y = torch.arange(h, device=flow.device).view(-1, 1) + flow[:, 1]
    inside = ((x >= 0) & (x <= w - 1) & (y >= 0) & (y <= h - 1)).unsqueeze(1)
    grid = torch.stack([2 * x / (w - 1) - 1, 2 * y / (h - 1) - 1], -1)
    warped = F.grid_sample(image, grid, padding_mode="border", align_corners=True)
    return warped, inside.to(flow.dtype)


def _gradient(image: Tensor) -> tuple[Tensor, Tensor]:
    x = _shift(image, 0, 1) - _shift(image, 0, -1)
    y = _shift(image, 1, 0) - _shift(image, -1, 0)
    return x / 2, y / 2


def _shift(image: Tensor, dy: int, dx: int) -> Tensor:
    """The image at (y + dy, x + dx), borders repeated; dy and dx at most 1 in size."""
    h, w = image.shape[-2:]
    padded = F.pad(image, (max(-dx, 0), max(dx, 0), max(-dy, 0), max(dy, 0)), mode="replicate")
    return padded[..., max(dy, 0) :, max(dx, 0) :][..., :h, :w]


def _smooth(image: Tensor) -> Tensor:
    """Gaussian of 0.6 pixels."""
    for dy, dx in ((0, 1), (1, 0)):
        image = 0.664 * image + 0.168 * (_shift(image, dy, dx) + _shift(image, -dy, -dx))
    return image


def _grey(rgb: Tensor) -> Tensor:
    r, g, b = rgb.split(1, 1)
    return 0.299 * r + 0.587 * g + 0.114 * b


def _sizes(size: Sequence[int]) -> list[tuple[int, int]]:
    """Pyramid sizes, coarsest first."""
    sizes = [(size[0], size[1])]
    while min(sizes[0]) * PYRAMID_SCALE >= COARSEST:
        h, w = sizes[0]
        sizes.insert(0, (round(h * PYRAMID_SCALE), round(w * PYRAMID_SCALE)))
    return sizes


def _resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(image, size, mode="bilinear", antialias=True)


def _resize_flow(flow: Tensor, size: tuple[int, int]) -> Tensor:
    h, w = flow.shape[-2:]
    scale = flow.new_tensor([size[1] / w, size[0] / h]).view(1, 2, 1, 1)
    return F.interpolate(flow, size, mode="bilinear") * scale
