"""Solving for the flow: data term plus robust smoothness, relaxed to a fixed number of sweeps.

The unknown is the whole flow, so the equations at a pixel are
(A + sum of w) u = A u0 + b + sum of w * neighbours' u, with 2x2 matrices A of the data term and
smoothness weights w between neighbours. A slant, how the flow is expected to differ between
neighbours, is what the smoothness term measures differences from. Block Jacobi sweeps with
Chebyshev acceleration (Golub and Varga, Numer. Math. 3, 1961) converge like successive
over-relaxation, yet are elementwise.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from flow_cache.estimators.variational.constancy import DataTerm
from flow_cache.estimators.variational.slant import Slant, differences
from flow_cache.estimators.variational.stencils import Plane
from flow_cache.field import Flow

SMOOTHNESS = 0.45  # weight of the total variation of the flow
EPSILON = 0.02  # the robust penalty sqrt(|grad|^2 + EPSILON^2) in pixels
SPECTRAL_RADIUS = 0.98  # of the unaccelerated sweep, as assumed by the acceleration


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class System:
    """A symmetric system over a picture of n pixels in reading order.

    Attributes:
        right, below: weights to those neighbours, 0 at borders; without the last pixel, and
            without the last row.
        from_u, from_v: columns of the inverse of each pixel's own 2x2 matrix: what either component
            of the right side adds to both of the flow.
        lean: what the slant adds to the right side.
    """

    right: Float[Tensor, "b 1 n_but_one"]
    below: Float[Tensor, "b 1 n_but_a_row"]
    from_u: Float[Tensor, "b 2 n"]
    from_v: Float[Tensor, "b 2 n"]
    lean: Float[Tensor, "b 2 h w"] | None = None


@torch.no_grad()
def assemble(data: DataTerm, flow: Flow, slant: Slant | None = None) -> System:
    """The system of one update, with robust smoothness weights taken at the present flow."""
    width = flow.shape[-1]
    right, below = smoothness(flow, slant)
    total = right + below
    total[..., 1:] += right[..., :-1]
    total[..., 1:, :] += below[..., :-1, :]
    a11, a22 = data.a11 + total, data.a22 + total
    scale = torch.addcmul(a11 * a22, data.a12, data.a12, value=-1).reciprocal_()
    mixed = (data.a12 * scale).neg_()
    return System(
        right=right.flatten(2)[..., :-1],
        below=below.flatten(2)[..., :-width],
        from_u=torch.cat([a22 * scale, mixed], 1).flatten(2),
        from_v=torch.cat([mixed, a11 * scale], 1).flatten(2),
        lean=None if slant is None else _lean(right, below, slant),
    )


def smoothness(flow: Flow, slant: Slant | None = None) -> tuple[Plane, Plane]:
    """Weights between each pixel and its right and lower neighbour."""
    departure = differences(flow)
    if slant is not None:
        departure = departure - slant
    x, y = departure.split(2, 1)
    squared = (x * x).addcmul_(y, y)
    weight = (squared[:, :1] + squared[:, 1:]).add_(EPSILON * EPSILON).rsqrt_()
    weight *= SMOOTHNESS / 2
    right = F.pad(weight[..., :-1] + weight[..., 1:], (0, 1))
    below = F.pad(weight[..., :-1, :] + weight[..., 1:, :], (0, 0, 0, 1))
    return right, below


def _lean(right: Plane, below: Plane, slant: Slant) -> Flow:
    """Each neighbour pulls by its weight towards its own flow less the slant to it."""
    x, y = slant.split(2, 1)
    x, y = right * x, below * y
    lean = -x - y
    lean[..., 1:] += x[..., :-1]
    lean[..., 1:, :] += y[..., :-1, :]
    return lean


def relax(system: System, right_side: Flow, start: Flow, sweeps: int) -> Flow:
    """Approach the solution from `start` by a fixed number of sweeps.

    Differentiable in `right_side` alone. The sweeps apply a polynomial of the system to it,
    which is symmetric because the system is: the gradient is the same relaxation, from zero.
    """
    return _Relax.apply(system, right_side, start, sweeps)


class _Relax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, system: System, right_side: Tensor, start: Tensor, sweeps: int) -> Tensor:
        ctx.system, ctx.sweeps = system, sweeps
        return _sweep(system, right_side, start, sweeps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor, None, None]:
        return None, _sweep(ctx.system, grad, torch.zeros_like(grad), ctx.sweeps), None, None


def _sweep(system: System, right_side: Tensor, start: Tensor, sweeps: int) -> Tensor:
    width = start.shape[-1]
    right, below, from_u, from_v = (system.right, system.below, system.from_u, system.from_v)
    right_side = right_side.flatten(2)
    flow, other = start.flatten(2).clone(), start.flatten(2).clone()
    pull = torch.empty_like(flow)
    omega = 1.0
    for i in range(sweeps):
        pull.copy_(right_side)
        pull[..., :-1].addcmul_(right, flow[..., 1:])
        pull[..., 1:].addcmul_(right, flow[..., :-1])
        pull[..., :-width].addcmul_(below, flow[..., width:])
        pull[..., width:].addcmul_(below, flow[..., :-width])
        u, v = pull.split(1, 1)
        other.mul_(1 - omega).addcmul_(from_u, u, value=omega).addcmul_(from_v, v, value=omega)
        flow, other = other, flow
        omega = 1 / (1 - SPECTRAL_RADIUS**2 * (omega / 4 if i else 0.5))
    return flow.view_as(start)
