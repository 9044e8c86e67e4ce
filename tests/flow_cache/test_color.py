import numpy as np
import pytest
import torch

from flow_cache.color import flow_to_rgb, wheel_legend


def color_of(dx: float, dy: float, max_px: float = 1) -> tuple[int, ...]:
    flow = np.array([[[dx]], [[dy]]], np.float32)
    return tuple(flow_to_rgb(flow, max_px)[0, 0].tolist())


# Values of the Middlebury reference code (Baker et al., colorcode) for unit vectors.
@pytest.mark.parametrize(
    ("direction", "color"),
    [((1, 0), (255, 0, 0)), ((0, 1), (255, 229, 0)), ((-1, 0), (0, 209, 255))],
)
def test_directions_have_the_colours_of_the_middlebury_wheel(
    direction: tuple[float, float], color: tuple[int, int, int]
) -> None:
    np.testing.assert_allclose(color_of(*direction), color, atol=3)


def test_rest_is_white_and_longer_vectors_are_fuller() -> None:
    assert color_of(0, 0) == (255, 255, 255)
    assert color_of(0.5, 0) == (255, 127, 127)
    assert color_of(3, 0) == (191, 0, 0)  # beyond the scale: darkened


def test_scale_is_the_longest_vector_by_default() -> None:
    flow = np.zeros((2, 3, 4), np.float32)
    flow[0, 1, 2] = 7
    assert flow_to_rgb(torch.from_numpy(flow))[1, 2].tolist() == [255, 0, 0]
    assert flow_to_rgb(np.zeros((2, 3, 4), np.float32)).min() == 255


def test_legend_is_a_disc_of_all_directions() -> None:
    legend = wheel_legend(65)
    assert legend.shape == (65, 65, 3)
    assert legend[0, 0].tolist() == legend[32, 32].tolist() == [255, 255, 255]
    assert legend[32, 64].tolist() == list(color_of(1, 0))
    assert legend[64, 32].tolist() == list(color_of(0, 1))
