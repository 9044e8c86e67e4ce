import math

import pytest
import torch

from trainer.process.edm import Edm
from trainer.process.laws import LogNormal

LAW = LogNormal(-1.2, 1.2, highest=80.0)


@pytest.mark.parametrize("sigma_data", [0.5, 1.0])
@pytest.mark.parametrize("sigma", [0.01, 0.5, 1.0, 80.0])
def test_inputs_and_targets_of_the_network_have_unit_variance(
    sigma: float, sigma_data: float
) -> None:
    at = Edm(sigma_data, LAW).coefficients(torch.tensor([[sigma]]))
    assert (at.gamma.item(), at.sigma.item()) == (1, pytest.approx(sigma))
    assert at.conditioning.item() == pytest.approx(25 * math.log(sigma), abs=1e-4)
    skip, out, into = at.skip.item(), at.out.item(), at.into.item()
    assert into**2 * (sigma**2 + sigma_data**2) == pytest.approx(1, rel=1e-5)
    variance = skip**2 * sigma**2 + (1 - skip) ** 2 * sigma_data**2
    assert variance / out**2 == pytest.approx(1, rel=1e-4)


def test_where_noise_equals_data() -> None:
    at = Edm(0.5, LAW).coefficients(torch.tensor([[0.5]]))
    found = (at.skip.item(), at.out.item(), at.into.item())
    assert found == pytest.approx((0.5, 0.5 / math.sqrt(2), math.sqrt(2)))


@pytest.mark.parametrize(
    ("sigma", "ours", "paper"), [(0.1, 104, 101), (0.5, 8, 5), (1, 5, 2), (2, 4.25, 1.25)]
)
def test_weights_of_edm_and_of_the_flowloss_paper(sigma: float, ours: float, paper: float) -> None:
    """1/out² is λ(σ); FlowLoss's is stated for σ_data = 1 and wrong for another."""
    for sigma_data, weight in ((0.5, ours), (1.0, paper)):
        at = Edm(sigma_data, LAW).coefficients(torch.tensor([[float(sigma)]]))
        assert 1 / at.out.item() ** 2 == pytest.approx(weight, rel=1e-5)


def test_a_clean_slot_has_a_finite_condition_and_is_kept() -> None:
    at = Edm(0.5, LAW).coefficients(torch.tensor([[0.0]]))
    assert (at.skip.item(), at.out.item(), at.sigma.item()) == (1, 0, 0)
    assert at.conditioning.item() == pytest.approx(25 * math.log(LAW.lowest), rel=1e-6)
