"""Analytic scenes whose flow and visibility are known exactly, and the scores of a visibility mask.

`benchmarks/visibility.py` reports on them and the tests hold the criteria to them.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from flow_cache import FlowField, length
from fluxshard.demo.scenes import Motion, Scene, Surface, make_texture

Counts = tuple[int, int, int]  # pixels hidden rightly, hidden by the criterion, hidden in truth

SIZE = (192, 256)
QUIET_PX = 0.25  # flow that is shorter hardly moves
DISCS = ((12, 5), (12, 12), (25, 5), (25, 12), (45, 5), (45, 12), (45, 24))  # radius, speed, px


def analytic_scenes(seed: int, size: tuple[int, int] = SIZE) -> Iterator[tuple[str, Scene]]:
    """Rotation, zoom, a pan, discs of several sizes and speeds, objects over a moving ground.

    Args:
        seed: of textures and headings.
        size: (height, width); the objects are made for `SIZE`.
    """
    rng = np.random.default_rng(seed)
    height, width = size
    middle = ((width - 1) / 2, (height - 1) / 2)

    def ground(velocity: tuple[float, float] = (0, 0), spin: float = 0, zoom: float = 1) -> Surface:
        motion = Motion(position=middle, velocity=velocity, spin=spin, zoom=zoom)
        return Surface(motion=motion, texture=make_texture(rng))

    def disc(x: float, y: float, radius: float, speed: float, spin: float = 0) -> Surface:
        heading = rng.uniform(0, 2 * math.pi)
        velocity = (speed * math.cos(heading), speed * math.sin(heading))
        motion = Motion(position=(x * width, y * height), velocity=velocity, spin=spin)
        return Surface(motion=motion, texture=make_texture(rng), ellipse=(radius, radius))

    def scene(*surfaces: Surface) -> Scene:
        return Scene(size=size, surfaces=surfaces)

    yield "rotation, 0.05 rad", scene(ground(spin=0.05))
    yield "rotation, 0.15 rad", scene(ground(spin=-0.15))
    yield "zoom in by 6 %", scene(ground(zoom=1.06))
    yield "zoom out by 6 %", scene(ground(zoom=0.94))
    yield "pan, 5 px", scene(ground(velocity=(4.6, -2.3)))
    for radius, speed in DISCS:
        yield f"disc of {radius}, {speed} px", scene(ground(), disc(0.5, 0.5, radius, speed))
    pair = (disc(0.3, 0.4, 30, 5), disc(0.7, 0.6, 22, 9, spin=0.1))
    yield "two discs over a pan", scene(ground(velocity=(3.2, 1.1)), *pair)
    yield "two discs over a rotation", scene(ground(spin=0.03), *pair)


def frames_of(scene: Scene) -> Tensor:
    """Two frames, uint8 [2, 3, h, w]."""
    return torch.from_numpy(scene.clip([0.0, 1.0]))


def truth_of(scene: Scene) -> FlowField:
    """Between them: forward, then backward."""
    ways = ((0, 1), (1, 0))
    return FlowField(
        flow=torch.from_numpy(np.stack([scene.flow(*way) for way in ways])),
        visible=torch.from_numpy(np.stack([scene.visible(*way) for way in ways])),
    )


def still_noise(seed: int, size: tuple[int, int] = SIZE, sigma: float = 4.0) -> Tensor:
    """Frames uint8 [5, 3, h, w] of a picture that stands still, each with noise of its own."""
    rng = np.random.default_rng(seed)
    ground = Surface(motion=Motion(position=(0, 0)), texture=make_texture(rng))
    picture = Scene(size=size, surfaces=(ground,)).clip([0.0])
    noisy = picture + rng.normal(0, sigma, (5, *picture.shape[1:]))
    return torch.from_numpy(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))


def counts(seen: Tensor, visible: Tensor) -> Counts:
    """What `f1` takes, of a mask and the true one."""
    both = int((~seen & ~visible).sum())
    return both, int((~seen).sum()), int((~visible).sum())


def f1(parts: Iterable[Counts]) -> float | None:
    """Of counts together; None where nothing is hidden in truth."""
    hits, found, hidden = (sum(part) for part in zip(*parts, strict=True))
    return 2 * hits / (found + hidden) if hidden else None


def tally(fields: Sequence[FlowField]) -> Tensor:
    """Pixels of the quiet ring, hidden ones of these; hidden in all, hidden in the ring."""
    total = torch.zeros(4, dtype=torch.long)
    for field in fields:
        ring = torch.ones_like(field.visible)
        ring[:, 1:-1, 1:-1] = False
        quiet, hidden = ring & (length(field.flow) < QUIET_PX), ~field.visible
        parts = (quiet, quiet & hidden, hidden, ring & hidden)
        total += torch.stack([part.sum() for part in parts])
    return total
