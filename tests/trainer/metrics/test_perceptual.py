import math
import sys
from pathlib import Path

import pytest
import torch

from shards import UsageError
from tests.trainer.metrics.moving import frozen, moving
from trainer.metrics.perceptual import (
    Distance,
    consistency,
    distance_over,
    drift,
    load_lpips,
)


@pytest.fixture(scope="module")
def lpips_distance() -> Distance:
    """With the learned weights of its channels, and a trunk of random ones: they are not here."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return load_lpips("alex", pnet_rand=True)


def brightness(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return (first - second).abs().mean((1, 2, 3))


def ramp(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(1, -1, 1, 1, 1).expand(1, -1, 3, 2, 2)


def test_the_score_is_1_less_the_mean_over_neighbours() -> None:
    clips = ramp(0.0, 0.1, 0.3, 0.6)
    assert consistency(clips, brightness).item() == pytest.approx(1 - (0.1 + 0.2 + 0.3) / 3)
    two = torch.cat([clips, ramp(0.5, 0.5, 0.5, 0.5)])
    assert consistency(two, brightness).tolist() == pytest.approx([0.8, 1])


def test_drift_is_what_frames_half_a_clip_apart_have_more_than_neighbours() -> None:
    clips = ramp(0.0, 0.1, 0.3, 0.6)
    assert distance_over(clips, brightness, 2).item() == pytest.approx((0.3 + 0.5) / 2)
    assert drift(clips, brightness).item() == pytest.approx(0.4 - 0.2)
    flicker = ramp(0.0, 0.1, 0.0, 0.1)  # comes back: it flickers, and does not drift
    assert drift(flicker, brightness).item() < 0
    assert math.isnan(drift(ramp(0.1, 0.2, 0.3), brightness).item())
    assert math.isnan(distance_over(clips, brightness, 4).item())


def test_lpips_runs_and_a_still_clip_wins(lpips_distance: Distance) -> None:
    clips = torch.cat([moving(), frozen(moving())])
    scores = consistency(clips, lpips_distance)
    assert scores[0] < scores[1] == 1
    assert not scores.requires_grad
    assert drift(clips, lpips_distance)[0] > drift(clips, lpips_distance)[1] == 0


@pytest.mark.filterwarnings("ignore:The parameter 'pretrained'", "ignore:Arguments other than")
def test_lpips_takes_frames_from_0_to_1(lpips_distance: Distance) -> None:
    import lpips

    with torch.random.fork_rng():
        torch.manual_seed(0)
        bare = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    first, second = moving()[0, :2].split(1)
    with torch.no_grad():
        expected = bare(2 * first - 1, 2 * second - 1).flatten()
    torch.testing.assert_close(lpips_distance(first, second), expected)


def test_small_frames_are_refused(lpips_distance: Distance) -> None:
    with pytest.raises(UsageError, match="16x24 are too small for LPIPS"):
        lpips_distance(torch.zeros(1, 3, 16, 24), torch.zeros(1, 3, 16, 24))


def test_weights_that_cannot_be_fetched_are_named_with_their_place(
    lpips_distance: Distance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    with pytest.raises(UsageError, match=r"alexnet-\w+-\w+\.pth.*no network.*put the file there"):
        load_lpips("alex")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(UsageError, match=r"pip install 'fluxshard\[lpips\]'"):
        load_lpips()
