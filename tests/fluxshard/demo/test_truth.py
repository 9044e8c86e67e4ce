"""The motion of the clips that are built from the demo's videos is known exactly."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_cache.algebra import warp
from fluxshard.demo.scenes import Scene, random_scene
from fluxshard.demo.truth import as_built, true_flow
from fluxshard.demo.videos import VIDEOS
from pipeline.source.clip_frames import read_clips
from shards import Clip

ClipsOf = Callable[[str], tuple[Clip, ...]]
BY_NAME = {video.name: video for video in VIDEOS}
USABLE = [video.name for video in VIDEOS if video.name not in ("truncated.mp4", "too_short.mp4")]


@pytest.mark.parametrize("name", USABLE)
def test_true_flow_leads_to_the_same_point_of_the_picture(name: str, clips_of: ClipsOf):
    """Warping a frame by the true flow gives back the other, which a wrong mapping would not."""
    clip = clips_of(name)[-1]
    frames = torch.from_numpy(next(read_clips([clip]))).float()
    for i, j in ((0, 1), (8, 12), (16, 14)):
        true = true_flow(clip, (i, j))
        inner = true.visible[0] & ~near_edges(true.flow[0])
        still = (frames[j] - frames[i]).abs().mean(0)[inner].mean()
        moved = (warp(frames[j : j + 1], true.flow)[0] - frames[i]).abs().mean(0)[inner].mean()
        assert moved < 2.5
        assert moved < still / 2 or still < 2.5


def near_edges(flow: torch.Tensor) -> torch.Tensor:
    """Pixels next to a motion boundary, where scaling and compression mix two surfaces."""
    jump = torch.zeros(flow.shape[1:], dtype=torch.bool)
    jump[:, 1:] |= (flow[:, :, 1:] - flow[:, :, :-1]).abs().amax(0) > 0.3
    jump[1:, :] |= (flow[:, 1:, :] - flow[:, :-1, :]).abs().amax(0) > 0.3
    return torch.nn.functional.max_pool2d(jump[None].float(), 5, 1, 2)[0] > 0


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), end=st.floats(-8, 8))
def test_halving_a_scene_halves_its_flow(seed: int, end: float):
    """A pixel of the smaller picture is the centre of four, and one surface's motion is affine."""
    for surface in random_scene(seed, (32, 48), speed=1.0).surfaces:
        endless = replace(surface, ellipse=None, polygon=None)
        scene = Scene(size=(32, 48), surfaces=(endless,))
        four = scene.flow(1, end).reshape(2, 16, 2, 24, 2).mean(axis=(2, 4))
        small = as_built(scene, (16, 24)).flow(1, end)
        np.testing.assert_allclose(small, four / 2, atol=1e-4)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_halving_a_scene_halves_its_shapes(seed: int):
    scene = random_scene(seed, (32, 48))
    points = np.random.default_rng(seed).uniform(-16, 16, (2, 500))
    for large, small in zip(scene.surfaces, as_built(scene, (16, 24)).surfaces, strict=True):
        np.testing.assert_array_equal(large.covers(points), small.covers(points / 2))


def test_truth_is_refused_where_there_is_none(clips_of: ClipsOf):
    clip = clips_of("cuts.mp4")[0]
    with pytest.raises(ValueError, match=r"holiday\.mp4"):
        true_flow(replace(clip, path="/somewhere/holiday.mp4"), (0, 1))
    across = replace(clip, numbers=(0, BY_NAME["cuts.mp4"].scene_frames))
    with pytest.raises(ValueError, match="two scenes"):
        true_flow(across, (0, 1))
