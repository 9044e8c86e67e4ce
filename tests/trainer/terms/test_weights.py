from dataclasses import replace
from typing import Literal

import pytest
import torch

from trainer.config import FlowLossConfig, ProcessConfig
from trainer.process.build import build_process
from trainer.terms.weights import pixel_weight, reconstruction_share, sigma_weight

CONFIG = FlowLossConfig(weight=1.0)
UNGATED = replace(CONFIG, psi=float("inf"), sigma_floor=1e-6)
SIGMA = torch.tensor([0.1, 0.5, 1.0, 2.0, 10.0])
WEIGHTED: tuple[Literal["w_ss", "w_ls"], ...] = ("w_ss", "w_ls")


def loss_weight(sigma: torch.Tensor, sigma_data: float) -> torch.Tensor:
    """EDM's λ(σ), as its process has it."""
    process = build_process(ProcessConfig(sigma_data=sigma_data))
    return 1 / process.coefficients(sigma[None]).out[0] ** 2


@pytest.mark.parametrize("sigma_data", [0.5, 1.0])
def test_the_weight_is_the_papers_product(sigma_data: float) -> None:
    sigma = torch.linspace(0.06, 0.499, 50)
    gate = sigma_data**2 / (sigma**2 + sigma_data**2)
    torch.testing.assert_close(
        sigma_weight(sigma, CONFIG), gate * loss_weight(sigma, sigma_data), rtol=1e-5, atol=0
    )
    torch.testing.assert_close(sigma_weight(sigma, CONFIG) * sigma**2, torch.ones(50))


def test_the_weight_is_capped_below_the_floor_and_zero_from_the_gate_on() -> None:
    sigma = torch.tensor([1e-6, 0.05, 0.0500001, 0.4999, 0.5, 80.0])
    weight = sigma_weight(sigma, CONFIG)
    assert weight[:3].tolist() == pytest.approx([400, 400, 400], rel=1e-4)
    assert weight[3] > 0
    assert weight[4:].tolist() == [0, 0]


def test_the_product_is_1_over_sigma_squared_for_every_sigma_data_and_the_papers_is_not() -> None:
    """The paper's λ is EDM's for σ_d = 1; with it, another σ_d has another product."""
    ours = sigma_weight(SIGMA, UNGATED)
    torch.testing.assert_close(ours, torch.tensor([100, 4, 1, 0.25, 0.01]))
    gate = 1 / (SIGMA**2 + 1)
    torch.testing.assert_close(
        gate, torch.tensor([0.990099, 0.8, 0.5, 0.2, 0.00990]), rtol=1e-4, atol=0
    )
    torch.testing.assert_close(ours, gate * loss_weight(SIGMA, 1.0))
    literal = gate * loss_weight(SIGMA, 0.5)
    expected = torch.tensor([102.97, 6.4, 2.5, 0.85, 0.0397])
    torch.testing.assert_close(literal, expected, rtol=2e-3, atol=0)
    assert not torch.isclose(literal, ours, rtol=0.02).any()


@pytest.mark.parametrize("sigma_data", [0.5, 1.0])
def test_the_weighted_averages_share_one_weight_between_two_losses(sigma_data: float) -> None:
    """(1 − w)·λ of the reconstruction and w·λ of the motion; each other's mirror, in sum λ."""
    total, halves = loss_weight(SIGMA, sigma_data), {}
    for balance in WEIGHTED:
        config = replace(UNGATED, balance=balance)
        share = reconstruction_share(SIGMA, config, sigma_data)
        assert share is not None
        motion = sigma_weight(SIGMA, config, sigma_data)
        torch.testing.assert_close(share * total + motion, total)
        halves[balance] = (share * total, motion)
    torch.testing.assert_close(halves["w_ss"], halves["w_ls"][::-1])
    torch.testing.assert_close(halves["w_ls"][1], torch.full((5,), sigma_data**-2))


def test_only_one_loss_is_active_at_the_extremes() -> None:
    ends = torch.tensor([1e-3, 1e3])
    small, large = (
        reconstruction_share(ends, replace(UNGATED, balance=balance), 1.0) for balance in WEIGHTED
    )
    torch.testing.assert_close(small, torch.tensor([0.0, 1.0]), rtol=0, atol=1e-5)
    torch.testing.assert_close(large, torch.tensor([1.0, 0.0]), rtol=0, atol=1e-5)


def test_beyond_the_gate_the_reconstruction_keeps_all_of_its_weight() -> None:
    for balance in WEIGHTED:
        config = replace(CONFIG, balance=balance)
        share = reconstruction_share(torch.tensor([0.4999, 0.5, 3.0]), config, 0.5)
        assert share is not None
        assert share[0] < 0.51
        assert share[1:].tolist() == [1, 1]
        assert sigma_weight(torch.tensor([0.5, 3.0]), config, 0.5).tolist() == [0, 0]


def test_added_beside_it_nothing_is_taken_from_the_reconstruction() -> None:
    assert reconstruction_share(SIGMA, CONFIG, 0.5) is None
    assert reconstruction_share(SIGMA, replace(CONFIG, balance="w_ss", weight=0.0), 0.5) is None


def test_two_frames_that_are_given_need_no_loss() -> None:
    for balance in WEIGHTED:
        assert sigma_weight(torch.zeros(3), replace(UNGATED, balance=balance)).tolist() == [0] * 3


def test_hidden_pixels_weigh_less_and_those_of_chains_nothing() -> None:
    visible = torch.tensor([[[True, False]]]).expand(3, -1, -1)
    weight = pixel_weight(visible, torch.tensor([1, 2, 0]), CONFIG)
    assert weight[:, 0].flatten().tolist() == pytest.approx([1, 0.3, 1, 0, 0, 0])
