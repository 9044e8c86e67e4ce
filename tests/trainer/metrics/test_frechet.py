import numpy as np
import pytest
from scipy.linalg import sqrtm

from shards import UsageError
from trainer.metrics.frechet import frechet_distance, video_distance


def normal(n: int, d: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def with_moments(n: int, mean: np.ndarray, deviation: np.ndarray, seed: int = 0) -> np.ndarray:
    """n features that have exactly this mean and, in each dimension alone, this deviation."""
    drawn = normal(n, len(mean), seed)
    basis, _ = np.linalg.qr(drawn - drawn.mean(axis=0))
    return mean + np.sqrt(n - 1) * basis * deviation


def test_of_gaussians_whose_axes_agree_it_is_known() -> None:
    """‖μ − μ'‖² + Σ (s − s')², as √(Σ·Σ') has s·s' on its diagonal."""
    first = with_moments(20, np.array([1.0, 0, 2]), np.array([1.0, 2, 3]))
    second = with_moments(30, np.array([0.0, 2, 2]), np.array([2.0, 2, 0.5]), seed=1)
    assert frechet_distance(first, second) == pytest.approx(1 + 4 + 1 + 0 + 6.25)


def test_it_is_what_the_root_of_the_product_gives() -> None:
    first, second = normal(200, 8, 0), 0.5 + normal(150, 8, 1) @ normal(8, 8, 2)
    covariances = [np.cov(x, rowvar=False) for x in (first, second)]
    root = sqrtm(covariances[0] @ covariances[1]).real
    shift = np.square(first.mean(0) - second.mean(0)).sum()
    expected = shift + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(second, first) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "d"), [(4, 50), (50, 4)])
def test_a_set_has_no_distance_from_itself_singular_or_not(n: int, d: int) -> None:
    features = 100 * normal(n, d, 0)
    assert frechet_distance(features, features) < 1e-9
    assert frechet_distance(features, features[::-1]) < 1e-9
    assert frechet_distance(features, features + 3) == pytest.approx(9 * d)


def test_dimensions_that_say_nothing_change_nothing() -> None:
    """Fewer samples than features: in a turned space of 60 dimensions, what it was in 5."""
    first, second = normal(20, 5, 0), 2 * normal(20, 5, 1) + 1
    turn, _ = np.linalg.qr(normal(60, 5, 2))
    wide = frechet_distance(first @ turn.T, second @ turn.T)
    assert wide == pytest.approx(frechet_distance(first, second), rel=1e-9)


def test_half_precision_features_are_summed_exactly() -> None:
    """A common offset that float32 sums would lose the spread in."""
    features = np.round(normal(64, 3, 0), 3)
    offset = (features + 1e4).astype(np.float32)
    spread = frechet_distance(features, 2 * features)
    shifted = frechet_distance(offset - np.float32(1e4), 2 * features)
    assert shifted == pytest.approx(spread, rel=1e-3)
    assert frechet_distance(offset, offset.astype(np.float64)) < 1e-9


def test_the_truth_against_itself_is_stated_at_the_same_number_of_clips() -> None:
    real, made = normal(64, 6, 0), normal(20, 6, 1) + 1
    found = video_distance(made, real)
    assert found["fvd_n"] == 20
    assert found["fvd"] == frechet_distance(made, real[:20])
    assert found["fvd_real"] == frechet_distance(real[20:40], real[:20])
    assert 0 < found["fvd_real"] < found["fvd"]
    assert video_distance(normal(99, 6, 1), real)["fvd_n"] == 32


def test_few_samples_look_different_although_they_are_not() -> None:
    """The bias that a figure without its N hides."""
    drawn = normal(2000, 16, 0)
    few, many = (video_distance(normal(n, 16, 1), drawn[: 2 * n]) for n in (20, 1000))
    for found in (few, many):
        assert found["fvd"] == pytest.approx(found["fvd_real"], rel=0.5)
    assert few["fvd"] > 20 * many["fvd"]


def test_too_few_clips_and_broken_features_are_refused() -> None:
    with pytest.raises(UsageError, match=r"two clips and twice as many .* got 1 and 8"):
        video_distance(normal(1, 3, 0), normal(8, 3, 0))
    with pytest.raises(UsageError, match="got 5 and 3"):
        video_distance(normal(5, 3, 0), normal(3, 3, 0))
    with pytest.raises(ValueError, match="not finite"):
        frechet_distance(np.array([[np.nan], [1.0]]), normal(2, 1, 0))
    with pytest.raises(ValueError, match="two samples at least, got 1"):
        frechet_distance(normal(1, 3, 0), normal(4, 3, 0))
