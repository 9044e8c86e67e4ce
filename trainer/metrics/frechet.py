"""FVD (arXiv 1812.01717): the Fréchet distance of Gaussians fitted to features of sets of clips.

    ‖μ_r − μ_g‖² + Tr(Σ_r + Σ_g − 2·√(Σ_r·Σ_g))

No root of a product of covariances is taken, which is inexact where one is singular, as every
covariance of fewer clips than features is. With A the centred features over √(n − 1), Σ = AᵀA, and
the trace of the root is the sum of the singular values of A_r·A_gᵀ: exact for any number of clips.

Exact is the arithmetic. The distance itself is biased upwards for finite sets, the more the fewer
clips and the more features: it means something only beside that of truth against truth at the same
number of clips, and only for one network.
"""

import numpy as np
from jaxtyping import Float, Float64

from shards import UsageError

Features = Float[np.ndarray, "n d"]


def frechet_distance(first: Features, second: Float[np.ndarray, "m d"]) -> float:
    """Of the Gaussians that have the sets' means and (unbiased) covariances; in float64.

    Raises:
        ValueError: a set of less than two, or a feature that is not finite.
    """
    mean_first, root_first = _moments(first)
    mean_second, root_second = _moments(second)
    shared = np.linalg.svd(root_first @ root_second.T, compute_uv=False).sum()
    spread = np.square(root_first).sum() + np.square(root_second).sum() - 2 * shared
    return float(np.square(mean_first - mean_second).sum() + max(spread, 0.0))


def video_distance(made: Features, real: Float[np.ndarray, "m d"]) -> dict[str, float]:
    """FVD, and what the truth has against itself, of equally many clips.

    Sets should be in random order: neighbours of one video are more alike than clips are.

    Returns:
        fvd: of the first N made clips and the first N real ones.
        fvd_real: of these and the N real ones that follow: what the truth itself has at this N.
        fvd_n: N, which is as large as both sets allow.

    Raises:
        UsageError: there are not two clips, or not four real ones.
    """
    n = min(len(made), len(real) // 2)
    if n < 2:
        raise UsageError(
            f"FVD needs two clips and twice as many real ones at least (2,048 for figures that "
            f"others can be compared with), got {len(made)} and {len(real)}: make more, or measure "
            "without it"
        )
    return {
        "fvd": frechet_distance(made[:n], real[:n]),
        "fvd_real": frechet_distance(real[n : 2 * n], real[:n]),
        "fvd_n": float(n),
    }


def _moments(
    features: Features,
) -> tuple[Float64[np.ndarray, " d"], Float64[np.ndarray, "k d"]]:
    """The mean, and R with RᵀR the covariance, of no more rows than columns."""
    if len(features) < 2:
        raise ValueError(f"a covariance needs two samples at least, got {len(features)}")
    exact = features.astype(np.float64)
    if not np.isfinite(exact).all():
        raise ValueError("a feature is not finite: look at the clips and the feature network")
    mean = exact.mean(axis=0)
    root: np.ndarray = np.asarray(np.linalg.qr((exact - mean) / np.sqrt(len(exact) - 1), "r"))
    return mean, root
