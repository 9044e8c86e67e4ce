"""Between stages: the paper's numbers, and noise that is white again."""

import math

import pytest
import torch
from torch import Tensor

from trainer.config import ProcessConfig
from trainer.process.build import build_process
from trainer.process.process import Coefficients
from trainer.sample.renoise import opposite, refine

KINDS = ("edm", "flow", "ddim")


def at(kind: str, *levels: float) -> Coefficients:
    row = torch.tensor([levels], dtype=torch.float64)
    return build_process(ProcessConfig(kind=kind)).coefficients(row)  # type: ignore[arg-type]


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1, 1)


@pytest.mark.parametrize(
    ("end", "scale", "noise"), [(2.0, 0.783612, 0.522408), (0.5, 0.878680, 0.292893)]
)
def test_the_jumps_of_flow_matching(end: float, scale: float, noise: float) -> None:
    ended, start = at("flow", end), at("flow", *[math.sqrt(2) * end] * 2)
    one, none = column(1.0), column(0.0)
    scaled = refine(one, opposite(none, 2), ended, start)
    noised = refine(none, opposite(one, 2), ended, start)
    assert scaled.flatten().tolist() == pytest.approx([scale] * 2, abs=1e-6)
    assert noised.flatten().tolist() == pytest.approx([noise, -noise], abs=1e-6)


@pytest.mark.parametrize("end", [2.0, 0.5])
def test_the_scale_of_ddim_is_the_one_that_the_paper_does_not_print(end: float) -> None:
    start = at("ddim", *[math.sqrt(2) * end] * 2)
    scaled = refine(column(1.0), column(0.0, 0.0), at("ddim", end), start)
    expected = (start.gamma**2 + start.sigma**2 / 2).sqrt()
    torch.testing.assert_close(scaled.flatten(), expected.flatten())
    wrong = (start.sigma + math.sqrt(2) * start.gamma) / math.sqrt(2)  # flow matching's
    assert (wrong - expected).abs().max() > 0.1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", [2.0, 0.5])
@pytest.mark.parametrize("slots", [6, 5])
def test_noise_of_the_end_becomes_white_noise_of_the_start(
    kind: str, end: float, slots: int
) -> None:
    """Exactly: the map from unit noise to x, times its transpose. So for an odd last slot, too."""
    ended, start = at(kind, *[end] * 3), at(kind, *[math.sqrt(2) * end] * slots)
    unit = torch.eye(6, dtype=torch.float64).view(6, 2, 3, 1, 1, 1)
    x = refine(
        ended.sigma.view(1, 3, 1, 1, 1) * unit[:, 0], opposite(unit[:, 1], slots), ended, start
    )
    found = x.flatten(1).T @ x.flatten(1)
    torch.testing.assert_close(found, torch.diag(start.sigma[0] ** 2))


@pytest.mark.parametrize("kind", KINDS)
def test_beside_a_given_slot_the_noise_is_of_its_own_alone(kind: str) -> None:
    high = math.sqrt(2) * 0.5
    ended, start = at(kind, 0.5, 0.0), at(kind, high, high, 0.0, high)
    noise = refine(column(0.0, 0.0), opposite(column(0.0, 1.0), 4), ended, start).flatten()
    assert noise[3].item() == pytest.approx(-start.sigma[0, 3].item())
    signal = refine(column(0.0, 1.0), column(0.0, 0.0, 0.0, 0.0), ended, start).flatten()
    assert signal[3].item() == pytest.approx(start.gamma[0, 3].item())  # γ_s of the known frame
