"""The true flow of clips that were built from the demo's videos.

As a scene is a formula, the flow between any two frames can be told from a `Clip` alone.
"""

from dataclasses import replace
from pathlib import Path

import torch

from flow_cache import FlowField, Pair
from fluxshard.demo.scenes import Scene, Surface
from fluxshard.demo.videos import VIDEOS, scene_at
from shards import Clip


def true_flow(clip: Clip, pair: Pair) -> FlowField:
    """The exact flow (n = 1) between two frames of a clip that was built from one of `VIDEOS`.

    Args:
        clip: its path, source frame numbers and size are used.
        pair: slots of the clip, (source, target).

    Raises:
        ValueError: the clip is from another video, or its frames show two scenes.
    """
    name = Path(clip.path).name
    video = next((video for video in VIDEOS if video.name == name), None)
    if video is None:
        raise ValueError(f"the motion in {name} is not known, only that in the demo's videos")
    (scene, start), (other, end) = (scene_at(video, clip.numbers[slot]) for slot in pair)
    if scene is not other:
        raise ValueError(f"frames {pair} of {clip.key} show two scenes with a cut between them")
    built = as_built(scene, clip.size)
    return FlowField(
        flow=torch.from_numpy(built.flow(start, end))[None],
        visible=torch.from_numpy(built.visible(start, end))[None],
    )


def as_built(scene: Scene, size: tuple[int, int]) -> Scene:
    """The geometry of a scene after scaling it to cover `size` and cropping it at the centre.

    Exact where this rounds nothing: pixel p goes to c' + s (p - c) with the centres c and c' of
    the two pictures. Only the motion is right: textures are left as they are.
    """
    scale = max(size[0] / scene.size[0], size[1] / scene.size[1])

    def scaled(vector: tuple[float, float]) -> tuple[float, float]:
        return scale * vector[0], scale * vector[1]

    def placed(point: tuple[float, float]) -> tuple[float, float]:
        x, y = (
            (new - 1) / 2 + scale * (value - (old - 1) / 2)
            for value, old, new in zip(point, scene.size[::-1], size[::-1], strict=True)
        )
        return x, y

    def moved(surface: Surface) -> Surface:
        motion = replace(
            surface.motion,
            position=placed(surface.motion.position),
            velocity=scaled(surface.motion.velocity),
            acceleration=scaled(surface.motion.acceleration),
        )
        polygon = surface.polygon and tuple(scaled(corner) for corner in surface.polygon)
        ellipse = surface.ellipse and scaled(surface.ellipse)
        return replace(surface, motion=motion, polygon=polygon, ellipse=ellipse)

    return Scene(size=size, surfaces=tuple(map(moved, scene.surfaces)))
