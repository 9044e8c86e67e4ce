import cv2
import numpy as np
import pytest
import torch

from flow_cache.estimators.opencv_dis import PRESETS, DisFlow


def texture() -> torch.Tensor:
    """uint8 [2, 3, 48, 64], moved by 2 pixels to the right."""
    noise = np.random.default_rng(0).random((48, 66, 3))
    canvas = cv2.GaussianBlur(noise, (0, 0), 1.5)
    canvas = (255 * (canvas - canvas.min()) / np.ptp(canvas)).astype(np.uint8)
    clip = np.stack([canvas[:, 2:], canvas[:, :-2]]).transpose(0, 3, 1, 2)
    return torch.from_numpy(clip.copy())


@pytest.mark.parametrize("preset", PRESETS)
def test_is_opencv_on_grey_frames(preset: str) -> None:
    frames = texture()
    grey = [cv2.cvtColor(x.permute(1, 2, 0).numpy(), cv2.COLOR_RGB2GRAY) for x in frames]
    expected = np.zeros((48, 64, 2), np.float32)
    cv2.DISOpticalFlow.create(PRESETS[preset]).calc(grey[0], grey[1], expected)
    flow, visible = DisFlow(preset=preset).clip(frames, [(0, 1)])
    np.testing.assert_array_equal(flow[0].permute(1, 2, 0).numpy(), expected)
    assert visible is None


def test_floats_are_rounded_and_clamped_to_what_opencv_takes() -> None:
    first, second = (texture().float() / 255).split(1)
    flow = DisFlow().pair(first, second)
    assert torch.equal(DisFlow().pair(first + 1e-4, second - 1e-4), flow)
    bright = torch.where(first == first.max(), 1.2, first)
    assert torch.equal(DisFlow().pair(bright, second), DisFlow().pair(bright.clamp(0, 1), second))


def test_is_a_value_named_by_the_library_that_computes_it() -> None:
    assert DisFlow(preset="fast") == DisFlow(preset="fast") != DisFlow()
    assert DisFlow().revision == "opencv-" + ".".join(cv2.__version__.split(".")[:2])
    assert DisFlow().params == {"preset": "medium"}
