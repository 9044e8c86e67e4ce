import math

import pytest
import torch

from tests.trainer.metrics.moving import frozen, moving
from trainer.metrics.differences import frame_difference, second_difference, temporal_variance


def ramp(*values: float) -> torch.Tensor:
    """A clip whose frames are of one colour each."""
    return torch.tensor(values).view(1, -1, 1, 1, 1).expand(1, -1, 3, 2, 2)


def test_variance_is_the_populations() -> None:
    """Divided by T, not by T − 1, which would give 0.045 and 0.02."""
    assert temporal_variance(ramp(0.1, 0.4)).tolist() == pytest.approx([0.15**2])
    assert temporal_variance(ramp(0.1, 0.3, 0.1, 0.3, 0.2)).item() == pytest.approx(0.008)


def test_differences_are_means_of_absolute_values() -> None:
    assert frame_difference(ramp(0.1, 0.4, 0.0)).item() == pytest.approx(0.35)
    assert second_difference(ramp(0.1, 0.4, 0.0)).item() == pytest.approx(0.7)
    assert second_difference(ramp(0.1, 0.3, 0.5)).item() == pytest.approx(0, abs=1e-7)


def test_each_clip_has_its_own_value() -> None:
    clips = torch.cat([ramp(0.0, 0.2, 0.4), ramp(0.5, 0.5, 0.5)])
    assert frame_difference(clips).tolist() == pytest.approx([0.2, 0])
    assert temporal_variance(clips)[1] == 0


def test_too_few_frames_have_no_value() -> None:
    assert math.isnan(second_difference(ramp(0.1, 0.4)).item())
    assert math.isnan(frame_difference(ramp(0.1)).item())


def test_a_still_clip_has_no_flicker_and_no_change() -> None:
    clips = moving()
    for figure in (temporal_variance, frame_difference, second_difference):
        assert figure(frozen(clips)).item() < 1e-12 < 1e-4 < figure(clips).item()
