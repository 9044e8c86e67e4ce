import math
from statistics import NormalDist

import numpy as np
import pytest
import torch
from torch import Tensor

from trainer.process.edm import denoise, level_at, loss_weight, noise_like
from trainer.process.pyramid import NoiseInterval

EDM = NormalDist(-1.2, 1.2)


def coefficients(sigma: float, sigma_data: float) -> tuple[float, float, float, float]:
    """c_skip, c_out, c_in, c_noise, found by probing `denoise` with simple networks."""
    one, level, time = torch.ones(1, 1, 1, 1, 1), torch.tensor([[sigma]]), torch.zeros(1)
    seen: dict[str, float] = {}

    def network(x: Tensor, c_noise: Tensor, time: Tensor) -> Tensor:
        seen["c_in"], seen["c_noise"] = x.item(), c_noise.item()
        return torch.zeros_like(x)

    c_skip = denoise(network, one, level, time, sigma_data).item()
    c_out = denoise(lambda x, *_: torch.ones_like(x), one * 0, level, time, sigma_data).item()
    return c_skip, c_out, seen["c_in"], seen["c_noise"]


@pytest.mark.parametrize("sigma_data", [0.5, 1.0])
@pytest.mark.parametrize("sigma", [0.01, 0.5, 1.0, 80.0])
def test_the_loss_weight_undoes_the_output_scale(sigma: float, sigma_data: float) -> None:
    c_skip, c_out, c_in, c_noise = coefficients(sigma, sigma_data)
    weight = loss_weight(torch.tensor(sigma), sigma_data).item()
    assert weight * c_out**2 == pytest.approx(1, rel=1e-5)
    assert c_noise == pytest.approx(math.log(sigma) / 4, abs=1e-6)
    # Training inputs and targets have unit variance.
    assert c_in**2 * (sigma**2 + sigma_data**2) == pytest.approx(1, rel=1e-5)
    variance = c_skip**2 * sigma**2 + (1 - c_skip) ** 2 * sigma_data**2
    assert variance / c_out**2 == pytest.approx(1, rel=1e-4)


def test_where_noise_equals_data() -> None:
    c_skip, c_out, c_in, _ = coefficients(0.5, 0.5)
    assert (c_skip, c_out, c_in) == pytest.approx((0.5, 0.5 / math.sqrt(2), math.sqrt(2)))


@pytest.mark.parametrize(
    ("sigma", "ours", "paper"), [(0.1, 104, 101), (0.5, 8, 5), (1, 5, 2), (2, 4.25, 1.25)]
)
def test_weights_of_edm_and_of_the_flowloss_paper(sigma: float, ours: float, paper: float) -> None:
    assert loss_weight(torch.tensor(float(sigma)), 0.5).item() == pytest.approx(ours)
    assert loss_weight(torch.tensor(float(sigma)), 1.0).item() == pytest.approx(paper)


@pytest.mark.parametrize(("low", "high"), [(0.0, math.inf), (0.0, 0.7), (0.5, 2.8), (2.0, 80.0)])
def test_noise_levels_follow_the_prior_cut_to_the_interval(low: float, high: float) -> None:
    shares = [(i + 0.5) / 2000 for i in range(2000)]
    interval = NoiseInterval(end=low, start=high)
    drawn = sorted(level_at(share, EDM, interval) for share in shares)
    assert low <= drawn[0] <= drawn[-1] <= high
    below = EDM.cdf(math.log(low)) if low else 0.0
    total = EDM.cdf(math.log(high)) - below
    for level, share in zip(drawn, shares, strict=True):
        assert (EDM.cdf(math.log(level)) - below) / total == pytest.approx(share, abs=1e-6)


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_extreme_draws_stay_in_the_interval(uniform: float) -> None:
    for low, high in [(0.0, math.inf), (0.0, 0.7), (2.0, 80.0)]:
        level = level_at(uniform, EDM, NoiseInterval(end=low, start=high))
        assert low <= level <= high
        assert 0 < level < math.inf


@pytest.mark.parametrize(
    ("prior", "psi", "share"),
    [
        ((-1.2, 1.2), 0.5, 0.664),
        ((-1.2, 1.2), 1, 0.841),
        ((0.5, 1.4), 1, 0.361),
        ((0.5, 1.4), 5, 0.786),
        ((0.7, 1.6), 2, 0.498),
    ],
)
def test_share_of_samples_below_the_gate(
    prior: tuple[float, float], psi: float, share: float
) -> None:
    everything = NoiseInterval(end=0, start=math.inf)
    drawn = [level_at((i + 0.5) / 1000, NormalDist(*prior), everything) for i in range(1000)]
    assert sum(level < psi for level in drawn) / 1000 == pytest.approx(share, abs=0.0011)


def test_each_slot_is_denoised_at_its_own_level() -> None:
    clip, time = torch.randn(2, 3, 1, 2, 2), torch.arange(3.0)
    levels = torch.tensor([[0.1, 0.1, 0.1], [0.1, 2.0, 0.5]])

    def network(x: Tensor, c_noise: Tensor, time: Tensor) -> Tensor:
        return x * c_noise[:, :, None, None, None]

    whole = denoise(network, clip, levels, time, 0.5)
    for (row, slot), level in np.ndenumerate(levels.numpy()):
        part = clip[row, slot][None, None]
        alone = denoise(network, part, torch.full((1, 1), float(level)), time[:1], 0.5)
        torch.testing.assert_close(whole[row, slot], alone[0, 0])


def test_noise_belongs_to_the_position() -> None:
    whole = noise_like(torch.empty(4, 2, 3), seed=5, positions=range(8, 12))
    again = noise_like(torch.empty(2, 2, 3), seed=5, positions=[11, 9])
    assert torch.equal(again, whole[[3, 1]])
    assert not torch.equal(whole, noise_like(torch.empty(4, 2, 3), seed=6, positions=range(8, 12)))
    many = noise_like(torch.empty(50, 2000), seed=0, positions=range(50))
    assert abs(many.mean().item()) < 5 / many.numel() ** 0.5
    assert many.var().item() == pytest.approx(1, abs=5 * (2 / many.numel()) ** 0.5)
