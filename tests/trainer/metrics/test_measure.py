import math

import pytest
import torch

from flow_cache import load_estimator
from shards import UsageError
from tests.trainer.metrics.moving import frozen, moving
from trainer.metrics.features import FeatureNetwork
from trainer.metrics.measure import figures_of, measure

DIS = load_estimator("dis")
FIGURES = {
    *("clips", "flicker", "second_difference", "frame_difference"),
    *("motion_px", "warping_error", "visible_share"),
}


def clips(n: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.cat([moving(4, (48, 64), seed + i) for i in range(n)])


def difference(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return (first - second).abs().mean((1, 2, 3))


def test_figures_are_means_over_all_clips_of_all_batches() -> None:
    found = measure([clips(2), clips(1, seed=9)], DIS)
    assert set(found) == FIGURES
    assert found["clips"] == 3
    each = figures_of(torch.cat([clips(2), clips(1, seed=9)]), DIS)
    for name, values in each.items():
        assert found[name] == pytest.approx(values.mean().item(), rel=1e-5), name


def test_standing_still_wins_every_figure_of_smoothness_and_not_that_of_motion() -> None:
    true = clips()
    still, moved = (
        measure([x], DIS, real=[true], distance=difference) for x in (frozen(true), true)
    )
    for lower in ("flicker", "second_difference", "warping_error"):
        assert still[lower] < moved[lower]
    for higher in ("tcs", "visible_share"):
        assert still[higher] > moved[higher]
    assert still["motion_px"] == still["frame_difference"] == still["motion_ratio"] == 0
    assert moved["motion_ratio"] == pytest.approx(1)
    assert moved["real_motion_px"] == moved["motion_px"] > 2
    assert math.isnan(measure([true], DIS, real=[frozen(true)])["motion_ratio"])


def test_real_clips_have_the_same_figures_beside() -> None:
    found = measure([clips()], DIS, real=[clips(3, seed=5)], distance=difference)
    with_lpips = FIGURES | {"tcs", "lpips_drift"}
    assert set(found) == with_lpips | {f"real_{name}" for name in with_lpips} | {"motion_ratio"}
    assert (found["clips"], found["real_clips"]) == (2, 3)


def test_fvd_comes_with_what_the_truth_has_and_its_number_of_clips() -> None:
    network = FeatureNetwork(name="means", network=lambda x: x.mean(dim=(2, 3, 4)))
    real = [clips(3, seed=5), clips(3, seed=20)]
    found = measure([clips(4)], DIS, real=real, network=network)
    assert found["fvd_n"] == 3
    assert found["fvd_real"] > 0
    assert "fvd" not in measure([clips(4)], DIS, real=real)
    assert "fvd" not in measure([clips(4)], DIS, network=network)
    with pytest.raises(UsageError, match="got 4 and 3"):
        measure([clips(4)], DIS, real=[clips(3)], network=network)


def test_what_a_video_file_could_not_hold_is_cut_off() -> None:
    outside = 4 * clips() - 1.5
    assert measure([outside], DIS) == measure([outside.clamp(0, 1)], DIS)


def test_clips_that_are_no_numbers_are_told() -> None:
    broken = clips(2)
    broken[1, 2, 0, 3, 4] = math.nan
    with pytest.raises(ValueError, match="among 3 to 4 has pixels that are no numbers"):
        measure([clips(3), broken], DIS)


def test_without_clips_there_are_no_figures() -> None:
    assert measure([], DIS) == {}
