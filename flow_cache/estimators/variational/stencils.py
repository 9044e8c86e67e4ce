"""Small image operations of the variational estimator, built from elementwise operations.

Convolution and reduction libraries choose their summation order by batch size and thread count;
sums of shifted views do not, so a pair's flow is the same in any batch, bit for bit.
Borders repeat the edge pixel unless said otherwise.
"""

from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from flow_cache.estimators.variational.adjoint import bicubic
from flow_cache.field import Flow

Image = Float[Tensor, "n c h w"]
Plane = Float[Tensor, "n 1 h w"]


def neighbours(image: Image, radius: int, dim: int) -> list[Image]:
    """Views of the image shifted by -radius ... radius pixels along `dim` (-1 is x, -2 is y)."""
    around = (radius, radius, 0, 0) if dim == -1 else (0, 0, radius, radius)
    padded = F.pad(image, around, mode="replicate")
    return [padded.narrow(dim, i, image.shape[dim]) for i in range(2 * radius + 1)]


def gradient(image: Image) -> tuple[Image, Image]:
    """Twice the central differences along x and y."""
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    rows, columns = padded[..., 1:-1, :], padded[..., 1:-1]
    return rows[..., 2:] - rows[..., :-2], columns[..., 2:, :] - columns[..., :-2, :]


def smooth(image: Image) -> Image:
    """Gaussian of about 0.6 pixels, [0.168, 0.664, 0.168] along each axis."""
    for dim in (-1, -2):
        before, centre, after = neighbours(image, 1, dim)
        image = (before + after) * 0.168 + centre * 0.664
    return image


def box(image: Image, radius: int) -> Image:
    """Sum over a square window of 2 radius + 1 pixels per side."""
    for dim in (-1, -2):
        first, *others = neighbours(image, radius, dim)
        image = first
        for other in others:
            image = image + other
    return image


def median(image: Image) -> Image:
    """Median of 3x3 pixels: sort the columns, then combine three sorted columns."""
    above, centre, below = neighbours(image, 1, -2)
    low, high = torch.minimum(above, centre), torch.maximum(above, centre)
    middle = torch.maximum(low, torch.minimum(high, below))
    low, high = torch.minimum(low, below), torch.maximum(high, below)
    a, b, c = neighbours(low, 1, -1)
    low = torch.maximum(torch.maximum(a, b), c)
    a, b, c = neighbours(high, 1, -1)
    high = torch.minimum(torch.minimum(a, b), c)
    return _median_of_three(low, _median_of_three(*neighbours(middle, 1, -1)), high)


def _median_of_three(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))


def halve(image: Image) -> Float[Tensor, "n c half_h half_w"]:
    """Half the size (odd sides round up), each pixel the mean of four smoothed ones.

    Taps [1, 3, 3, 1] / 8 per axis; coarse pixel i lies between fine pixels 2i and 2i + 1.
    """
    for dim in (-1, -2):
        odd = image.shape[dim] % 2
        around = (1, 1 + odd, 0, 0) if dim == -1 else (0, 0, 1, 1 + odd)
        padded = F.pad(image, around, mode="replicate")
        n = (image.shape[dim] + odd) // 2
        a, b, c, d = (padded.narrow(dim, i, 2 * n - 1).unfold(dim, 1, 2)[..., 0] for i in range(4))
        image = (a + d) * 0.125 + (b + c) * 0.375
    return image


def double_flow(flow: Float[Tensor, "n 2 half_h half_w"], size: tuple[int, int]) -> Flow:
    """Flow of a halved image at the full `size`: bilinear, vectors doubled."""
    return 2 * F.interpolate(flow, scale_factor=2.0, mode="bilinear")[..., : size[0], : size[1]]


def sample(image: Image, flow: Flow, mode: Literal["bilinear", "bicubic"]) -> tuple[Image, Plane]:
    """The image at p + flow(p), and 1.0 where that leaves the frame, else 0.0."""
    h, w = flow.shape[-2:]
    scale = constants((2 / (w - 1), 2 / (h - 1)), flow.device, flow.dtype)
    grid = torch.addcmul(_places(h, w, flow.device), flow, scale)
    far = grid.abs()
    outside = (torch.maximum(far[:, :1], far[:, 1:]) - 1).sign_().clamp_(min=0)
    grid = grid.permute(0, 2, 3, 1)
    if mode == "bicubic" and image.requires_grad and _order_matters(image):
        return bicubic(image, grid), outside
    sampled = F.grid_sample(image, grid, mode=mode, padding_mode="border", align_corners=True)
    return sampled, outside


def lower_median(values: Float[Tensor, "*_ n"]) -> Float[Tensor, "*_"]:
    """Of the last dimension. Torch's own has no order of its indices on a GPU and is refused."""
    if _order_matters(values):
        return values.sort(-1).values[..., (values.shape[-1] - 1) // 2]
    return values.median(-1).values


def _order_matters(tensor: Tensor) -> bool:
    """Whether what has no fixed order is to be avoided; on a CPU all of it has one."""
    return tensor.device.type != "cpu" and torch.are_deterministic_algorithms_enabled()


def constants(
    values: tuple[float, ...], device: torch.device, dtype: torch.dtype
) -> Float[Tensor, "1 c 1 1"]:
    """One number for each channel; uploaded once, because each upload is waited for."""
    make = _constants.__wrapped__ if torch.compiler.is_compiling() else _constants
    return make(values, device, dtype)


@lru_cache(maxsize=256)
@torch.inference_mode(False)  # what is made there serves no gradient later
def _constants(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.tensor(values, device=device, dtype=dtype).view(1, -1, 1, 1)


def _places(h: int, w: int, device: torch.device) -> Float[Tensor, "2 h w"]:
    """x and y of each pixel as `grid_sample` has them, from -1 to 1."""
    make = _grid.__wrapped__ if torch.compiler.is_compiling() else _grid
    return make(h, w, device)


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def _grid(h: int, w: int, device: torch.device) -> Tensor:
    x = torch.linspace(-1, 1, w, device=device).expand(h, w)
    y = torch.linspace(-1, 1, h, device=device).unsqueeze(-1).expand(h, w)
    return torch.stack([x, y])
