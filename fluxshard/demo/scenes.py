"""Synthetic scenes whose flow and visibility are known exactly, between any two times.

A scene is a stack of flat surfaces: a background that fills the frame, and ellipses and polygons
above it. Each surface moves by its own similarity motion (drift, acceleration, rotation, zoom), so
the flow at a pixel is where its surface's motion takes it, and it is visible if no higher surface
and no border of the frame hides it there. Edges are hard: a pixel shows exactly one surface.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, UInt8

Points = Float[np.ndarray, "2 *points"]  # (x, y)
Mask = Bool[np.ndarray, " *points"]
TILE = 256  # texture tiles repeat after this many pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class Motion:
    """A similarity motion; times in the scene's unit (one frame, say), lengths in pixels.

    A point at material coordinates m (relative to the surface's own origin) is at time t at
    `position + velocity t + acceleration t^2 / 2 + zoom^t R(angle + spin t) m`.

    Attributes:
        position, velocity, acceleration: (x, y) of the surface's origin.
        angle, spin: in radians, and radians per time unit.
        zoom: factor per time unit.
    """

    position: tuple[float, float]
    velocity: tuple[float, float] = (0.0, 0.0)
    acceleration: tuple[float, float] = (0.0, 0.0)
    angle: float = 0.0
    spin: float = 0.0
    zoom: float = 1.0

    def to_frame(self, material: Points, time: float) -> Points:
        """Frame coordinates of material coordinates at `time`."""
        matrix, origin = self._affine(time)
        return _apply(matrix, material) + _like(origin, material)

    def to_material(self, points: Points, time: float) -> Points:
        """The inverse of `to_frame`."""
        matrix, origin = self._affine(time)
        return _apply(np.linalg.inv(matrix), points - _like(origin, points))

    def _affine(self, time: float) -> tuple[Float[np.ndarray, "2 2"], Float[np.ndarray, " 2"]]:
        turn = self.angle + self.spin * time
        cos, sin = np.cos(turn), np.sin(turn)
        matrix = self.zoom**time * np.array([[cos, -sin], [sin, cos]])
        start, drift, push = map(np.array, (self.position, self.velocity, self.acceleration))
        return matrix, start + drift * time + push * (time**2 / 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Surface:
    """One moving textured outline, or a background without end.

    Attributes:
        motion: how it moves.
        texture: RGB, repeated over material coordinates.
        ellipse: half axes in pixels; None with no polygon either: a background without end.
        polygon: corner points in material coordinates, in order round the outline.
    """

    motion: Motion
    texture: UInt8[np.ndarray, "tile tile 3"] = field(repr=False, compare=False)
    ellipse: tuple[float, float] | None = None
    polygon: tuple[tuple[float, float], ...] | None = None

    def covers(self, material: Points) -> Mask:
        """Which material points belong to the surface."""
        x, y = material
        if self.ellipse is not None:
            return (x / self.ellipse[0]) ** 2 + (y / self.ellipse[1]) ** 2 <= 1
        if self.polygon is not None:
            return _inside_polygon(x, y, self.polygon)
        return np.ones(x.shape, bool)

    def colors(self, material: Float[np.ndarray, "2 n"]) -> UInt8[np.ndarray, "n 3"]:
        """RGB at material points, bilinear."""
        corner = np.floor(material).astype(np.intp)
        right, down = (material - corner).astype(np.float32)[..., None]
        x, y = corner % TILE
        next_x, next_y = (corner + 1) % TILE
        upper = self.texture[y, x] * (1 - right) + self.texture[y, next_x] * right
        lower = self.texture[next_y, x] * (1 - right) + self.texture[next_y, next_x] * right
        return np.rint(upper * (1 - down) + lower * down).astype(np.uint8)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Surfaces seen by a camera.

    Times are any floats, so a scene can be sampled at a variable frame rate.

    Attributes:
        size: (height, width) in pixels.
        surfaces: from the bottom to the top.
    """

    size: tuple[int, int]
    surfaces: tuple[Surface, ...]

    def frame(self, time: float) -> UInt8[np.ndarray, "h w 3"]:
        """RGB at `time`."""
        top, materials = self._look(time)
        image = np.empty((*self.size, 3), np.uint8)
        for number, surface in enumerate(self.surfaces):
            seen = top == number
            if seen.any():
                image[seen] = surface.colors(materials[number][:, seen])
        return image

    def clip(self, times: Sequence[float]) -> UInt8[np.ndarray, "t 3 h w"]:
        """RGB frames, one per time."""
        return np.stack([self.frame(time) for time in times]).transpose(0, 3, 1, 2).copy()

    def flow(self, start: float, end: float) -> Float32[np.ndarray, "2 h w"]:
        """Exact flow from the frame at `start` to the frame at `end`."""
        return self._motion(start, end)[0].astype(np.float32)

    def visible(self, start: float, end: float) -> Bool[np.ndarray, "h w"]:
        """Exact visibility: what is seen at `start` and also at `end`."""
        flow, top = self._motion(start, end)
        x, y = target = self._grid + flow
        height, width = self.size
        visible = (x >= -0.5) & (x <= width - 0.5) & (y >= -0.5) & (y <= height - 0.5)
        for number, surface in enumerate(self.surfaces):
            hidden = surface.covers(surface.motion.to_material(target, end)) & (top < number)
            visible &= ~hidden
        return visible

    @cached_property
    def _grid(self) -> Float[np.ndarray, "2 h w"]:
        """Pixel coordinates (x, y), float64 [2, h, w]."""
        rows, columns = np.indices(self.size, dtype=np.float64)
        return np.stack((columns, rows))

    def _look(self, time: float) -> tuple[Int[np.ndarray, "h w"], list[Points]]:
        """Number of the topmost surface at each pixel; material coordinates of each surface."""
        materials = [surface.motion.to_material(self._grid, time) for surface in self.surfaces]
        top = np.zeros(self.size, np.intp)
        for number, (surface, material) in enumerate(zip(self.surfaces, materials, strict=True)):
            top[surface.covers(material)] = number
        return top, materials

    def _motion(
        self, start: float, end: float
    ) -> tuple[Float[np.ndarray, "2 h w"], Int[np.ndarray, "h w"]]:
        top, materials = self._look(start)
        flow = np.zeros((2, *self.size))
        for number, surface in enumerate(self.surfaces):
            seen = top == number
            points = materials[number][:, seen]
            flow[:, seen] = surface.motion.to_frame(points, end) - self._grid[:, seen]
        return flow, top


def random_scene(
    seed: int, size: tuple[int, int], *, objects: int = 3, speed: float = 3.0, spin: float = 0.02
) -> Scene:
    """A scene with camera motion and moving objects, a pure function of its arguments.

    Args:
        seed: any integer.
        size: (height, width).
        objects: how many ellipses and polygons move over the background.
        speed: fastest drift of an object in pixels per time unit; the camera drifts half as fast.
        spin: fastest rotation in radians per time unit; zoom is of the same order.
    """
    rng = np.random.default_rng(seed)
    height, width = size

    def motion(position: tuple[float, float], fastest: float, turning: float) -> Motion:
        heading, pace = rng.uniform(0, 2 * np.pi), fastest * rng.uniform(0.5, 1)
        return Motion(
            position=position,
            velocity=(float(pace * np.cos(heading)), float(pace * np.sin(heading))),
            angle=float(rng.uniform(0, 2 * np.pi)),
            spin=float(rng.uniform(-turning, turning)),
            zoom=float(np.exp(rng.uniform(-turning, turning) / 2)),
        )

    camera = motion((width / 2, height / 2), speed / 2, spin / 4)
    surfaces = [Surface(motion=camera, texture=make_texture(rng))]
    for number in range(objects):
        position = (rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height)
        reach = min(size) * rng.uniform(0.12, 0.25)
        moving = motion(position, speed, spin)
        texture = make_texture(rng)
        if number % 2:
            outline = _random_polygon(rng, reach)
            surfaces.append(Surface(motion=moving, texture=texture, polygon=outline))
        else:
            axes = (float(reach), float(reach * rng.uniform(0.5, 1)))
            surfaces.append(Surface(motion=moving, texture=texture, ellipse=axes))
    return Scene(size=size, surfaces=tuple(surfaces))


def make_texture(rng: np.random.Generator) -> UInt8[np.ndarray, "tile tile 3"]:
    """A seamless texture, TILE pixels on a side, with detail from 4 to 128 pixels and soft edges.

    Noise of several octaves with a falling spectrum, pushed towards two colours so that it has
    contours as natural pictures do.
    """
    frequency = np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None])
    band = (frequency >= 1 / 128) & (frequency <= 1 / 4)
    amplitude = np.where(band, np.maximum(frequency, 1e-9) ** -1.3, 0)
    amplitude = amplitude * np.exp(-((frequency / 0.16) ** 4))

    def noise() -> Float[np.ndarray, "tile tile"]:
        spectrum = np.fft.rfft2(rng.standard_normal((TILE, TILE))) * amplitude
        values = np.fft.irfft2(spectrum, (TILE, TILE))
        return values / values.std()

    contour, shade = np.tanh(1.5 * noise()), noise()
    dark, bright = np.sort(rng.uniform(40, 215, (2, 3)), axis=0)
    middle, reach = (dark + bright) / 2, np.maximum(bright - dark, 60) / 2
    pattern = 0.75 * contour[..., None] + 0.3 * shade[..., None]
    return np.clip(np.rint(middle + reach * pattern), 0, 255).astype(np.uint8)


def _random_polygon(rng: np.random.Generator, reach: float) -> tuple[tuple[float, float], ...]:
    """Five to seven corners round the origin, between 0.6 and 1 of `reach` away from it."""
    corners = int(rng.integers(5, 8))
    angles = (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) * (2 * np.pi / corners)
    radii = reach * rng.uniform(0.6, 1, corners)
    return tuple(
        (float(r * np.cos(a)), float(r * np.sin(a))) for r, a in zip(radii, angles, strict=True)
    )


def _inside_polygon(
    x: Float[np.ndarray, " *points"],
    y: Float[np.ndarray, " *points"],
    corners: Sequence[tuple[float, float]],
) -> Mask:
    """Even-odd rule: a ray to the right crosses the outline an odd number of times."""
    inside = np.zeros(x.shape, bool)
    for (x0, y0), (x1, y1) in zip(corners, (*corners[1:], corners[0]), strict=True):
        if y0 != y1:
            crosses = (y0 > y) != (y1 > y)
            inside ^= crosses & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return inside


def _apply(matrix: Float[np.ndarray, "2 2"], points: Points) -> Points:
    return np.tensordot(matrix, points, 1)


def _like(vector: Float[np.ndarray, " 2"], points: Points) -> Float[np.ndarray, "2 ..."]:
    return vector.reshape(2, *[1] * (points.ndim - 1))
