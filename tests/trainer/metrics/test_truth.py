import math

import pytest
import torch

from tests.trainer.metrics.moving import MOTION, Known, frozen, moving
from trainer.metrics.motion import measuring_estimator
from trainer.metrics.truth import motion_error, relative_error


def test_the_truth_is_0_and_standing_still_is_1() -> None:
    assert relative_error(0.03, 0.03, 0.83) == 0
    assert relative_error(0.83, 0.03, 0.83) == 1
    assert relative_error(0.43, 0.03, 0.83) == pytest.approx(0.5)
    assert relative_error(1.63, 0.03, 0.83) == pytest.approx(2)


def test_without_motion_there_is_none_to_get_right() -> None:
    assert math.isnan(relative_error(0.1, 0.03, 0.03))
    assert math.isnan(relative_error(0.1, 0.0, 0.0))


def test_a_still_clip_misses_all_of_the_motion_and_the_true_one_none() -> None:
    true, estimator = moving(size=(64, 96)), measuring_estimator()
    right = motion_error(true, true, estimator)
    assert right["flow_relative"] == 0
    still = motion_error(frozen(true), true, estimator)
    assert still["flow_still"] == right["flow_still"], "what the made clip hides has no say"
    assert still["flow_relative"] == 1
    assert still["flow_error"] == still["flow_still"] > 5
    assert motion_error(torch.lerp(true, frozen(true), 0.5), true, estimator)["flow_relative"] > 0


def test_hidden_pixels_of_the_truth_weigh_less() -> None:
    """The known estimator says the same of both; what leaves the frame is hidden."""
    true, width, height = moving(), 64, 48
    inside = (height - MOTION[1]) * (width - MOTION[0]) / (height * width)
    found = motion_error(true, true, Known())
    weight = inside + 0.3 * (1 - inside)
    assert found["flow_still"] == pytest.approx(weight * (MOTION[0] ** 2 + MOTION[1] ** 2))
    assert found["flow_error"] == 0
