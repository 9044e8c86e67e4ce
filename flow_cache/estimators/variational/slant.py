"""How flow is expected to differ from a pixel to the next.

Total variation prefers steps to slopes, and keeps the flow constant where nothing is seen: wrong
for roads and walls, which lean towards the camera and leave the picture at its borders. So the
smoothness term measures differences from a slant, the mean one of a wide neighbourhood: second
order smoothness with the slope held (total generalised variation: Bredies et al., SIIMS 2010;
Ranftl et al., ECCV 2014). A difference of flow per pixel is the same number at every pyramid level.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from flow_cache.estimators.variational.stencils import Plane, box
from flow_cache.field import Flow

# Of (dx, dy) to the right neighbour, then to the lower one; 0 where there is none.
Slant = Float[Tensor, "n 4 h w"]

RADIUS = 7  # pixels of the neighbourhood


def differences(flow: Flow) -> Slant:
    """The flow of the right and of the lower neighbour, less the pixel's own."""
    x = F.pad(flow[..., 1:] - flow[..., :-1], (0, 1))
    y = F.pad(flow[..., 1:, :] - flow[..., :-1, :], (0, 0, 0, 1))
    return torch.cat([x, y], 1)


@torch.no_grad()
def measure(flow: Flow, slant: Slant, weights: tuple[Plane, Plane], outside: Plane) -> Slant:
    """The mean difference of the neighbourhood's flow.

    Args:
        slant: kept where the neighbourhood has no weight.
        weights: of each pixel's two differences, small across edges of motion.
        outside: 1 where the flow leaves the frame, which is no evidence of anything.
    """
    inside = 1 - outside
    right = weights[0] * inside * F.pad(inside[..., 1:], (0, 1))
    below = weights[1] * inside * F.pad(inside[..., 1:, :], (0, 0, 0, 1))
    x, y = differences(flow).split(2, 1)
    total = box(torch.cat([right * x, below * y, right, below], 1), RADIUS)
    change, right, below = total.split((4, 1, 1), 1)
    weight = torch.cat([right, right, below, below], 1)
    return _ended(torch.where(weight > 0, change / weight.clamp(min=1e-6), slant))


def at_twice(slant: Float[Tensor, "n 4 half_h half_w"], size: tuple[int, int]) -> Slant:
    """The slant of a halved image at the full `size`."""
    fine = F.interpolate(slant, scale_factor=2.0, mode="bilinear")[..., : size[0], : size[1]]
    return _ended(fine)


def _ended(slant: Tensor) -> Tensor:
    """With zeros where there is no neighbour."""
    x, y = slant.split(2, 1)
    return torch.cat([F.pad(x[..., :-1], (0, 1)), F.pad(y[..., :-1, :], (0, 0, 0, 1))], 1)
