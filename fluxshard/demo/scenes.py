"""Synthetic scenes whose flow and visibility are known exactly, between any two times.

A scene is a stack of flat layers: a background that fills the frame, and ellipses and polygons
above it. Each layer moves by its own similarity motion (drift, acceleration, rotation, zoom), so
the flow at a pixel is where its layer's motion takes it, and it is visible if no higher layer and
no border of the frame hides it there. Edges are hard: a pixel shows exactly one layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
TILE = 256  # texture tiles repeat after this many pixels


@dataclass(frozen=True, kw_only=True, slots=True)
class Motion:
    """A similarity motion; times in the scene's unit (one frame, say), lengths in pixels.

    A point at material coordinates m (relative to the layer's own origin) is at time t at
    `position + velocity t + acceleration t^2 / 2 + zoom^t R(angle + spin t) m`.
    """

    position: tuple[float, float]
    velocity: tuple[float, float] = (0.0, 0.0)
    acceleration: tuple[float, float] = (0.0, 0.0)
    angle: float = 0.0
    spin: float = 0.0
    zoom: float = 1.0

    def to_frame(self, material: Floats, time: float) -> Floats:
        """Frame coordinates (x, y) [2, ...] of material coordinates [2, ...] at `time`."""
        matrix, origin = self._affine(time)
        return _apply(matrix, material) + _like(origin, material)

    def to_material(self, points: Floats, time: float) -> Floats:
        """The inverse of `to_frame`."""
        matrix, origin = self._affine(time)
        return _apply(np.linalg.inv(matrix), points - _like(origin, points))

    def _affine(self, time: float) -> tuple[Floats, Floats]:
        turn = self.angle + self.spin * time
        cos, sin = np.cos(turn), np.sin(turn)
        matrix = self.zoom**time * np.array([[cos, -sin], [sin, cos]])
        start, drift, push = map(np.array, (self.position, self.velocity, self.acceleration))
        return matrix, start + drift * time + push * (time**2 / 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """One moving textured surface.

    Args:
        motion: how it moves.
        texture: uint8 [TILE, TILE, 3] RGB, repeated over material coordinates.
        ellipse: half axes in pixels; None with no polygon either: a background without end.
        polygon: corner points in material coordinates, in order round the outline.
    """

    motion: Motion
    texture: npt.NDArray[np.uint8] = field(repr=False, compare=False)
    ellipse: tuple[float, float] | None = None
    polygon: tuple[tuple[float, float], ...] | None = None

    def covers(self, material: Floats) -> npt.NDArray[np.bool_]:
        """Which material points [2, ...] belong to the layer."""
        x, y = material
        if self.ellipse is not None:
            return (x / self.ellipse[0]) ** 2 + (y / self.ellipse[1]) ** 2 <= 1
        if self.polygon is not None:
            return _inside_polygon(x, y, self.polygon)
        return np.ones(x.shape, bool)

    def colors(self, material: Floats) -> npt.NDArray[np.uint8]:
        """RGB uint8 [n, 3] at material points [2, n], bilinear."""
        corner = np.floor(material).astype(np.intp)
        right, down = (material - corner).astype(np.float32)[..., None]
        x, y = corner % TILE
        next_x, next_y = (corner + 1) % TILE
        upper = self.texture[y, x] * (1 - right) + self.texture[y, next_x] * right
        lower = self.texture[next_y, x] * (1 - right) + self.texture[next_y, next_x] * right
        return np.rint(upper * (1 - down) + lower * down).astype(np.uint8)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Layers seen by a camera of `size` = (height, width); the first lies at the bottom.

    Times are any floats, so a scene can be sampled at a variable frame rate.
    """

    size: tuple[int, int]
    layers: tuple[Layer, ...]

    def frame(self, time: float) -> npt.NDArray[np.uint8]:
        """RGB uint8 [h, w, 3] at `time`."""
        top, materials = self._look(time)
        image = np.empty((*self.size, 3), np.uint8)
        for number, layer in enumerate(self.layers):
            seen = top == number
            if seen.any():
                image[seen] = layer.colors(materials[number][:, seen])
        return image

    def clip(self, times: Sequence[float]) -> npt.NDArray[np.uint8]:
        """Frames uint8 [t, 3, h, w] RGB."""
        return np.stack([self.frame(time) for time in times]).transpose(0, 3, 1, 2).copy()

    def flow(self, start: float, end: float) -> npt.NDArray[np.float32]:
        """Exact flow float32 [2, h, w] from the frame at `start` to the frame at `end`."""
        return self._motion(start, end)[0].astype(np.float32)

    def visible(self, start: float, end: float) -> npt.NDArray[np.bool_]:
        """Exact visibility bool [h, w]: what is seen at `start` and also at `end`."""
        flow, top = self._motion(start, end)
        x, y = target = self._grid + flow
        height, width = self.size
        visible = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
        for number, layer in enumerate(self.layers):
            hidden = layer.covers(layer.motion.to_material(target, end)) & (top < number)
            visible &= ~hidden
        return visible

    @cached_property
    def _grid(self) -> Floats:
        """Pixel coordinates (x, y), float64 [2, h, w]."""
        rows, columns = np.indices(self.size, dtype=np.float64)
        return np.stack((columns, rows))

    def _look(self, time: float) -> tuple[npt.NDArray[np.intp], list[Floats]]:
        """Number of the topmost layer at each pixel [h, w]; each layer's material coordinates."""
        materials = [layer.motion.to_material(self._grid, time) for layer in self.layers]
        top = np.zeros(self.size, np.intp)
        for number, (layer, material) in enumerate(zip(self.layers, materials, strict=True)):
            top[layer.covers(material)] = number
        return top, materials

    def _motion(self, start: float, end: float) -> tuple[Floats, npt.NDArray[np.intp]]:
        top, materials = self._look(start)
        flow = np.zeros((2, *self.size))
        for number, layer in enumerate(self.layers):
            seen = top == number
            points = materials[number][:, seen]
            flow[:, seen] = layer.motion.to_frame(points, end) - self._grid[:, seen]
        return flow, top


def random_scene(
    seed: int, size: tuple[int, int], *, objects: int = 3, speed: float = 3.0, spin: float = 0.02
) -> Scene:
    """A scene with camera motion and moving objects, a pure function of its arguments.

    Args:
        seed: any integer.
        size: (height, width).
        objects: how many ellipses and polygons move over the background.
        speed: fastest drift of an object in pixels a time unit; the camera drifts half as fast.
        spin: fastest rotation in radians a time unit; zoom is of the same order.
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
    layers = [Layer(motion=camera, texture=make_texture(rng))]
    for number in range(objects):
        position = (rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height)
        reach = min(size) * rng.uniform(0.12, 0.25)
        moving = motion(position, speed, spin)
        texture = make_texture(rng)
        if number % 2:
            outline = _random_polygon(rng, reach)
            layers.append(Layer(motion=moving, texture=texture, polygon=outline))
        else:
            axes = (float(reach), float(reach * rng.uniform(0.5, 1)))
            layers.append(Layer(motion=moving, texture=texture, ellipse=axes))
    return Scene(size=size, layers=tuple(layers))


def make_texture(rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A seamless uint8 [TILE, TILE, 3] texture with detail from 4 to 128 pixels and soft edges.

    Noise of several octaves with a falling spectrum, pushed towards two colours so that it has
    contours as natural pictures do.
    """
    frequency = np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.rfftfreq(TILE)[None])
    band = (frequency >= 1 / 128) & (frequency <= 1 / 4)
    amplitude = np.where(band, np.maximum(frequency, 1e-9) ** -1.3, 0)
    amplitude = amplitude * np.exp(-((frequency / 0.16) ** 4))

    def noise() -> Floats:
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
    x: Floats, y: Floats, corners: Sequence[tuple[float, float]]
) -> npt.NDArray[np.bool_]:
    """Even-odd rule: a ray to the right crosses the outline an odd number of times."""
    inside = np.zeros(x.shape, bool)
    for (x0, y0), (x1, y1) in zip(corners, (*corners[1:], corners[0]), strict=True):
        if y0 != y1:
            crosses = (y0 > y) != (y1 > y)
            inside ^= crosses & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return inside


def _apply(matrix: Floats, points: Floats) -> Floats:
    """`matrix` [2, 2] on points [2, ...]."""
    return np.tensordot(matrix, points, 1)


def _like(vector: Floats, points: Floats) -> Floats:
    return vector.reshape(2, *[1] * (points.ndim - 1))
