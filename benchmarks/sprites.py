"""A world of which all is known: a textured disc that moves straight, reflected by the walls.

Two clean frames say where it will be in all others, so what a model makes of the motion can be
judged by an exact tracker: the disc is the only bright thing, and does not turn, so the centre of
its brightness moves as it does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

SIDE, FRAMES, RADIUS = 32, 16, 7.0
DARK = 32  # grey level of the background
BRIGHT = 75  # above it is the disc, of which no part is below 90; below it is what models leave
FINE = 4  # each way; a pixel is the mean of so many points
SPEEDS = (0.5, 2.0)  # pixels a frame


@dataclass(frozen=True, kw_only=True, slots=True)
class Track:
    """Where the disc of each clip is.

    Attributes:
        centre: x, y in pixels; NaN where less than half of a disc is left.
        area: what is bright, over the area of a disc.
    """

    centre: Float[np.ndarray, "b t 2"]
    area: Float[np.ndarray, "b t"]

    @property
    def velocity(self) -> Float[np.ndarray, "b t1 2"]:
        """Pixels a frame."""
        return np.diff(self.centre, axis=1)

    @property
    def acceleration(self) -> Float[np.ndarray, "b t2 2"]:
        """Pixels a frame, a frame."""
        return np.diff(self.velocity, axis=1)


def path(rng: np.random.Generator, frames: int = FRAMES) -> Float[np.ndarray, "t 2"]:
    """The disc's centre in each frame: straight, folded back at the walls."""
    room = SIDE - 2 * RADIUS
    speed, angle = rng.uniform(*SPEEDS), rng.uniform(0, 2 * np.pi)
    start = rng.uniform(0, room, 2)
    unfolded = start + speed * np.array([np.cos(angle), np.sin(angle)]) * np.arange(frames)[:, None]
    folded = np.abs((unfolded + room) % (2 * room) - room)
    return folded + RADIUS


def scene(seed: int, frames: int = FRAMES) -> UInt8[np.ndarray, "t h w 3"]:
    """One clip; a function of its seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(100, 256, (4, 4, 3)).astype(np.float32)
    texture = cv2.resize(coarse, (64, 64), interpolation=cv2.INTER_CUBIC).clip(90, 255)
    points = (np.arange(SIDE * FINE, dtype=np.float32) + 0.5) / FINE
    shown = []
    for x, y in path(rng, frames):
        dx, dy = np.meshgrid(points - np.float32(x), points - np.float32(y))
        inside = (dx**2 + dy**2 <= RADIUS**2)[..., None]
        scale = 63 / (2 * RADIUS)
        u, v = ((part + RADIUS) * scale for part in (dx, dy))
        seen = cv2.remap(texture, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        fine = np.where(inside, seen, DARK).reshape(SIDE, FINE, SIDE, FINE, 3)
        shown.append(fine.mean(axis=(1, 3)))
    return np.rint(np.stack(shown)).astype(np.uint8)


def track(clips: Float[Tensor, "b t 3 h w"]) -> Track:
    """Where the disc is in clips whose values are in [0, 1]."""
    grey = clips.double().mean(dim=2) * 255
    bright = torch.where(grey > BRIGHT, grey - DARK, 0.0)
    area = (bright > 0).sum(dim=(2, 3)) / (np.pi * RADIUS**2)
    mass = torch.where(area > 0.5, bright.sum(dim=(2, 3)), torch.nan)
    at = torch.arange(SIDE, dtype=torch.float64) + 0.5
    x, y = (bright.sum(dim=2) @ at / mass, bright.sum(dim=3) @ at / mass)
    return Track(centre=torch.stack([x, y], dim=2).numpy(), area=area.numpy())


def write(folder: Path, videos: int, scenes: int, seed: int = 0) -> None:
    """Videos of so many scenes each, one after the other, without loss."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(videos):
        first = (seed * 1000 + number) * 10_000
        _encode(folder / f"{number:03}.mkv", (scene(first + n) for n in range(scenes)))


def _encode(path: Path, scenes: Iterator[UInt8[np.ndarray, "t h w 3"]]) -> None:
    # Without the random numbers that name a Matroska file, which would decide what is kept.
    with av.open(path, "w", options={"fflags": "+bitexact"}) as out:
        stream = out.add_stream("ffv1", rate=Fraction(24), options={"slices": "4"})
        stream.width = stream.height = SIDE
        stream.pix_fmt = "bgr0"
        for frames in scenes:
            for frame in frames:
                out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode())
