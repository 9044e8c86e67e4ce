import numpy as np
import pytest
import torch

from flow_cache.algebra import warp
from fluxshard.demo.scenes import TILE, Motion, Scene, Surface, make_texture, random_scene

SIZE = (72, 96)


def textured(motion: Motion, **shape: tuple) -> Surface:
    return Surface(motion=motion, texture=make_texture(np.random.default_rng(1)), **shape)


def test_a_scene_is_a_pure_function_of_its_seed() -> None:
    one, same, other = (random_scene(seed, SIZE) for seed in (4, 4, 5))
    assert np.array_equal(one.frame(2.5), same.frame(2.5))
    assert not np.array_equal(one.frame(2.5), other.frame(2.5))


def test_shapes_and_types() -> None:
    scene = random_scene(0, SIZE)
    assert scene.clip([0, 0.4, 3]).shape == (3, 3, *SIZE)
    assert scene.clip([0]).dtype == np.uint8
    assert (scene.flow(0, 1).shape, scene.flow(0, 1).dtype) == ((2, *SIZE), np.float32)
    assert (scene.visible(0, 1).shape, scene.visible(0, 1).dtype) == (SIZE, np.bool_)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("times", [(0.0, 1.0), (2.0, -0.5), (1.25, 3.75)])
def test_visible_pixels_look_the_same_where_the_flow_leads(
    seed: int, times: tuple[float, float]
) -> None:
    scene = random_scene(seed, SIZE)
    first, second = (torch.from_numpy(scene.clip([t])).float() for t in times)
    flow, visible = scene.flow(*times), scene.visible(*times)
    found = warp(second, torch.from_numpy(flow)[None])
    error = (first - found).abs().mean(1)[0].numpy()
    # Sampling the second frame mixes in other surfaces along their edges, hence the median.
    assert np.median(error[visible]) <= 3
    assert error[visible].mean() <= 0.25 * (first - second).abs().mean()
    # What is said to be hidden mostly is something else there.
    assert error[~visible].mean() >= 4 * error[visible].mean()


def test_no_time_no_motion() -> None:
    scene = random_scene(1, SIZE)
    assert np.abs(scene.flow(1.5, 1.5)).max() < 1e-5
    assert scene.visible(1.5, 1.5).mean() > 0.98  # all but border pixels rounded out of the frame


def test_motion_and_occlusion_of_a_surface_by_hand() -> None:
    still = textured(Motion(position=(0, 0)))
    box = ((-4.5, -4.5), (4.5, -4.5), (4.5, 4.5), (-4.5, 4.5))
    moving = textured(Motion(position=(20, 30), velocity=(6, 0)), polygon=box)
    scene = Scene(size=SIZE, surfaces=(still, moving))
    flow, visible = scene.flow(0, 1), scene.visible(0, 1)
    object_now = np.zeros(SIZE, bool)
    object_now[26:35, 16:25] = True
    object_next = np.roll(object_now, 6, axis=1)
    assert np.array_equal(flow[0], np.where(object_now, 6, 0).astype(np.float32))
    assert not flow[1].any()
    assert np.array_equal(visible, ~(object_next & ~object_now))


def test_an_object_that_leaves_the_frame_is_hidden() -> None:
    still = textured(Motion(position=(0, 0)))
    moving = textured(Motion(position=(4, 20), velocity=(-10, 0)), ellipse=(3, 3))
    scene = Scene(size=SIZE, surfaces=(still, moving))
    assert not scene.visible(0, 1)[18:23, 2:7].any()
    assert scene.visible(0, 1).sum() == SIZE[0] * SIZE[1] - np.count_nonzero(scene.flow(0, 1)[0])


def test_motion_follows_its_formula() -> None:
    motion = Motion(
        position=(1, 2), velocity=(3, 4), acceleration=(0.5, -1), angle=0.3, spin=0.1, zoom=1.1
    )
    point = np.array([2.0, -1.0])
    turn = 0.3 + 0.1 * 2
    rotated = 1.1**2 * np.array([2 * np.cos(turn) + np.sin(turn), 2 * np.sin(turn) - np.cos(turn)])
    np.testing.assert_allclose(motion.to_frame(point, 2), np.array([8, 8]) + rotated)
    np.testing.assert_allclose(motion.to_material(motion.to_frame(point, 2), 2), point)


def test_textures_are_seamless_and_hold_detail_at_all_scales() -> None:
    texture = make_texture(np.random.default_rng(0)).astype(float)
    inside = np.abs(np.diff(texture, axis=0)).mean()
    seam = np.abs(texture[0] - texture[-1]).mean()
    assert seam < 2 * inside
    assert texture.shape == (TILE, TILE, 3)
    means = texture.reshape(8, 32, 8, 32, 3).mean((1, 3))
    assert means.std() > 3  # large blobs
    assert inside > 1  # fine detail


def test_a_surface_outside_of_its_shape_is_transparent() -> None:
    ellipse = textured(Motion(position=(0, 0)), ellipse=(4, 2))
    points = np.array([[0, 4, 4.1, 0, 3], [0, 0, 0, 2.1, 1.5]])
    assert ellipse.covers(points).tolist() == [True, True, False, False, False]
    triangle = textured(Motion(position=(0, 0)), polygon=((0, 0), (4, 0), (0, 4)))
    points = np.array([[1, 3, -0.5, 3.5], [1, 0.5, 1, 3.5]])
    assert triangle.covers(points).tolist() == [True, True, False, False]
