"""Flow arithmetic: sampling, composition and change of geometry, each with its validity.

Everything is torch, works on any device and batch, and is differentiable in the flow.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from flow_cache.field import Flow, FlowField, Visible

MAX_SPREAD_PX = 0.5  # standard deviation of vectors that still pass for one motion
ROUNDINGS = 8  # of a motion's square that its variance may be off by; twice the most ever seen


def targets(flow: Flow) -> tuple[Float[Tensor, "n h w"], Float[Tensor, "n h w"]]:
    """x and y of p + flow(p), in pixels."""
    height, width = flow.shape[-2:]
    x = torch.arange(width, device=flow.device, dtype=flow.dtype)
    y = torch.arange(height, device=flow.device, dtype=flow.dtype)
    return flow[:, 0] + x, flow[:, 1] + y[:, None]


def length(flow: Flow) -> Float[Tensor, "n h w"]:
    """Length of each vector, pixels."""
    return torch.hypot(flow[:, 0], flow[:, 1])


def warp(image: Float[Tensor, "n c h w"], flow: Flow) -> Float[Tensor, "n c h w"]:
    """Sample `image` at p + flow(p): the target frame as seen from the source frame.

    Args:
        image: on the grid of the flow's target frame.
        flow: pixels.

    Returns:
        The image. Beyond the outermost centres the nearest border pixel answers: up to half a
        pixel it covers the place itself, further out the place is not `in_frame`.
    """
    x, y = targets(flow)
    height, width = image.shape[-2:]
    # grid_sample wants [-1, 1]; a frame of one row or column has only coordinate 0. It reads planes
    # as fast as pairs, and to write pairs takes as long as to sample.
    x, y = (x * (2 / max(width - 1, 1))).sub_(1), (y * (2 / max(height - 1, 1))).sub_(1)
    grid = torch.stack((x, y), dim=1).permute(0, 2, 3, 1)
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=True)


def in_frame(flow: Flow) -> Visible:
    """Whether p + flow(p) lies inside the frame.

    A pixel covers half a unit about its centre, so a frame of width w covers [-0.5, w - 0.5]. The
    outermost centres would be too narrow: there, a hundredth of a pixel of noise leaves the frame.
    """
    x, y = targets(flow)
    height, width = flow.shape[-2:]
    return (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)


def round_trip(forward: Flow, backward: Flow) -> Flow:
    """forward(p) + backward(p + forward(p)), pixels; zero for consistent flows."""
    return forward + warp(backward, forward)


def interpolate(
    flow: Flow, sample: Callable[[Tensor], Tensor]
) -> tuple[Float[Tensor, "n 2 new_h new_w"], Bool[Tensor, "n new_h new_w"]]:
    """Flow at other places, and whether it is of one motion there.

    Between two motions interpolation invents a third; the variance of the vectors that it takes
    part of tells. That is a small difference of large numbers where motion is large: what rounding
    makes of it is not held against the motion (1 px at 1,024 px).

    Args:
        flow: pixels.
        sample: interpolates planes `[n, c, h, w]`.
    """
    sampled = sample(torch.cat((flow, flow.square().sum(1, keepdim=True)), 1))
    found, square = sampled[:, :2], sampled[:, 2]
    spread = square - found.square().sum(1)
    rounding = ROUNDINGS * torch.finfo(flow.dtype).eps
    return found, spread <= MAX_SPREAD_PX**2 + rounding * square


def compose(ab: FlowField, bc: FlowField) -> FlowField:
    """Flow from a to c: ab(p) + bc(p + ab(p)).

    A pixel is visible in c if it is visible in b, if it ends inside the frame, and if what `bc`
    is interpolated from there is for the most part visible in c and of one motion. A chain that
    leaves the frame on its way has nothing to go on with and is invisible from there on; once lost,
    a pixel stays lost.
    """
    onward, one_motion = interpolate(bc.flow, lambda planes: warp(planes, ab.flow))
    share = warp(bc.visible.to(ab.flow)[:, None], ab.flow)[:, 0]
    flow = ab.flow + onward
    visible = ab.visible & in_frame(ab.flow) & in_frame(flow)
    return FlowField(flow=flow, visible=visible & (share >= 0.5) & one_motion)


def resize(field: FlowField, size: tuple[int, int]) -> FlowField:
    """The field of the same clip stored at `size` = (height, width).

    Geometry is that of image resizing: the outer edges of the frame coincide, and vectors scale.
    The flow is what it was at the centre of the new pixel (an average over the pixel's area would
    mix motions); a pixel is visible only if all of its area was, and if its centre does not lie
    between two motions.
    """
    scale = torch.tensor([size[1] / field.size[1], size[0] / field.size[0]])
    flow, one_motion = interpolate(
        field.flow, lambda planes: F.interpolate(planes, size=size, mode="bilinear")
    )
    flow = flow * scale.to(flow).view(1, 2, 1, 1)
    hidden = (~field.visible).float()[:, None]
    hidden = F.interpolate(hidden, size=size, mode="bilinear", antialias=True)[:, 0]
    return FlowField(flow=flow, visible=(hidden < 1e-6) & one_motion & in_frame(flow))


def crop(field: FlowField, *, top: int, left: int, height: int, width: int) -> FlowField:
    """The window [top, top + height) x [left, left + width); pixels that leave it are invisible."""
    full_height, full_width = field.size
    inside = 0 <= top < top + height <= full_height and 0 <= left < left + width <= full_width
    if not inside:
        raise ValueError(
            f"crop of {height}x{width} at ({top}, {left}) does not lie inside the "
            f"{full_height}x{full_width} field"
        )
    rows, columns = slice(top, top + height), slice(left, left + width)
    flow = field.flow[:, :, rows, columns]
    return FlowField(flow=flow, visible=field.visible[:, rows, columns] & in_frame(flow))


def flip(field: FlowField) -> FlowField:
    """Mirrored left to right: x is reversed and dx changes sign."""
    mirror = torch.tensor([-1.0, 1.0], device=field.flow.device).view(1, 2, 1, 1)
    return FlowField(flow=field.flow.flip(-1) * mirror, visible=field.visible.flip(-1))
