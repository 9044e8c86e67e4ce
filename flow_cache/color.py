"""Flow as a picture: hue is direction, saturation is length (Baker et al., IJCV 2011)."""

from functools import cache
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

# The Middlebury wheel: the colours at its corners, and how many steps lead on from each.
CORNERS = (
    ((255, 0, 0), 15),
    ((255, 255, 0), 6),
    ((0, 255, 0), 4),
    ((0, 255, 255), 11),
    ((0, 0, 255), 13),
    ((255, 0, 255), 6),
)


def flow_to_rgb(
    flow: Float[np.ndarray | Tensor, "2 h w"], max_px: float | None = None
) -> UInt8[np.ndarray, "h w 3"]:
    """RGB picture of a flow in pixels.

    White is rest and full colour is motion of `max_px` pixels (default: the longest vector);
    longer vectors are darkened. Red points right, yellow down, cyan left, blue up.
    """
    dx, dy = np.asarray(flow, np.float64)
    length = np.hypot(dx, dy)
    longest = length.max() if max_px is None else max_px
    length = length / longest if longest > 0 else np.zeros_like(length)
    wheel = _wheel()
    turn = (np.arctan2(-dy, -dx) / np.pi + 1) / 2 * (len(wheel) - 1)  # 0 .. len - 1
    low = np.floor(turn).astype(np.intp)
    part = (turn - low)[..., None]
    color = wheel[low] * (1 - part) + wheel[(low + 1) % len(wheel)] * part
    strength = length[..., None]
    color = np.where(strength <= 1, 255 - strength * (255 - color), 0.75 * color)
    return np.floor(color).astype(np.uint8)


def wheel_legend(size: int) -> UInt8[np.ndarray, "size size 3"]:
    """The colour of every direction, full length at the circle's edge."""
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    flow = np.stack(np.meshgrid(axis, axis))
    picture = flow_to_rgb(flow, max_px=1)
    picture[np.hypot(*flow) > 1] = 255
    return picture


@cache
def _wheel() -> Float64[np.ndarray, "55 3"]:
    """RGB round the wheel."""
    arcs = [
        np.linspace(start, end, steps, endpoint=False)
        for (start, steps), (end, _) in pairwise((*CORNERS, CORNERS[0]))
    ]
    return np.floor(np.concatenate(arcs))
