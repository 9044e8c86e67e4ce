"""The data term of the variational estimator, linearised at the present flow.

Brightness and both components of its gradient stay constant along the motion (Brox et al., ECCV
2004, eq. 2 and 3). Each of the three equations is divided by the length of its spatial gradient,
so that its residual is a distance in pixels (Zimmer et al., IJCV 2011, sec. 3.1); the gradient
pair shares one robust weight (Bruhn and Weickert, ICCV 2005). What differs by several pixels is
rather hidden than moved, and loses its say (Black and Anandan, CVIU 1996).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from flow_cache.estimators.variational.stencils import Plane, constants, gradient
from flow_cache.field import Flow

Residuals = Float[Tensor, "n 3 h w"]  # of brightness and both gradients

BRIGHTNESS, GRADIENT = 0.5, 3.0  # weights of the two assumptions
NOISE = 0.02  # gradients below this many grey levels per pixel tell little about motion
EPSILON = 1e-3  # the robust penalty sqrt(r^2 + EPSILON^2) in pixels
OUTLIER = 2.0  # pixels of residual at which the weight is half of that


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DataTerm:
    """Quadratic form sum_k weight_k (ix_k du + iy_k dv + it_k)^2 over the flow's change.

    Attributes:
        pull_x, pull_y: weight * ix and weight * iy.
        a11, a12, a22: the normal matrix.
    """

    pull_x: Residuals
    pull_y: Residuals
    a11: Plane
    a12: Plane
    a22: Plane

    def right_side(self, change: Residuals) -> Flow:
        """Right side of the normal equations; linear in the temporal change."""
        return -torch.cat([_dot(self.pull_x, change), _dot(self.pull_y, change)], 1)


def temporal_change(first: Plane, warped: Plane) -> Residuals:
    """The three constancy residuals (in doubled units, as are the gradients)."""
    change = 2 * (warped - first)
    return torch.cat([change, *gradient(change)], 1)


@torch.no_grad()
def linearise(first: Plane, warped: Plane, outside: Plane, change: Residuals) -> DataTerm:
    """The data term around the present flow; spatial gradients are those of the mean image."""
    x, y = gradient((first + warped) / 2)
    xx, xy = gradient(x)
    _, yy = gradient(y)
    ix, iy = torch.cat([x, xx, xy], 1), torch.cat([y, xy, yy], 1)
    floors = (2 * NOISE, 4 * NOISE, 4 * NOISE)
    noise = constants(floors, first.device, first.dtype).square()
    norm = (ix * ix).addcmul_(iy, iy).add_(noise).reciprocal_()
    weight = _robust((change * change).mul_(norm), 1 - outside).mul_(norm)
    pull_x, pull_y = weight * ix, weight.mul_(iy)
    return DataTerm(
        pull_x=pull_x,
        pull_y=pull_y,
        a11=_dot(pull_x, ix),
        a12=_dot(pull_x, iy),
        a22=_dot(pull_y, iy),
    )


def _robust(error: Residuals, inside: Plane) -> Residuals:
    """Weights that make the squares `error` robust, 0 where the flow leaves."""
    brightness, first, second = error.split(1, 1)
    pair = first + second
    brightness = _weight(brightness, OUTLIER**2).mul_(BRIGHTNESS).mul_(inside)
    pair = _weight(pair, 2 * OUTLIER**2).mul_(GRADIENT).mul_(inside)
    return torch.cat([brightness, pair, pair], 1)


def _weight(square: Plane, outlier: float) -> Plane:
    """1 / sqrt(square + EPSILON^2), and less where the square nears `outlier`."""
    far = (square / outlier).add_(1)
    return (square + EPSILON * EPSILON).rsqrt_().div_(far)


def _dot(a: Residuals, b: Residuals) -> Plane:
    """Sum over the three channels."""
    total = a[:, :1] * b[:, :1]
    for i in (1, 2):
        total = torch.addcmul(total, a[:, i : i + 1], b[:, i : i + 1])
    return total
