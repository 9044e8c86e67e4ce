import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from trainer.config import ProcessConfig
from trainer.process.build import build_process
from trainer.process.edm import Edm
from trainer.process.laws import LogNormal
from trainer.process.objective import Reconstruction, reconstruct, weighted_mean
from trainer.process.pyramid import NoiseInterval, clean_estimate, noisy_mean, target

EDM = Edm(0.5, LogNormal(-1.2, 1.2))
PLAIN = NoiseInterval(end=0.0, start=math.inf)
HALF_RATE = NoiseInterval(end=0.5, start=math.sqrt(2) * 2)


def weight_of(sigma: Tensor) -> Tensor:
    """λ(σ) = (σ² + σ_d²)/(σ·σ_d)², as 1 over the square of c_out."""
    return 1 / (sigma * 0.5 / (sigma**2 + 0.25).sqrt()) ** 2


def clips(seed: int) -> Tensor:
    return torch.randn(2, 4, 3, 4, 4, generator=torch.Generator().manual_seed(seed))


def run(
    levels: Tensor, interval: NoiseInterval, raw: Tensor, share: Tensor | None = None
) -> Reconstruction:
    """The objective for a network that always answers `raw`."""
    time = torch.arange(4.0)
    return reconstruct(EDM, lambda *_: raw, clips(0), clips(1), levels, time, interval, share=share)


def prediction(levels: Tensor, interval: NoiseInterval, raw: Tensor) -> Tensor:
    """c_skip·x + c_out·raw, written out once more."""
    sigma = levels[:, :, None, None, None]
    noisy = noisy_mean(clips(0), levels, interval) + sigma * clips(1)
    total = sigma**2 + 0.25
    return 0.25 / total * noisy + 0.5 * sigma / total.sqrt() * raw


@pytest.mark.parametrize("interval", [PLAIN, HALF_RATE])
@pytest.mark.parametrize("levels", [[[0.6] * 4, [1.5] * 4], [[0.6, 0.7, 2, 1], [1, 1, 0.9, 2.5]]])
def test_the_loss_is_the_mean_of_each_slots_weighted_error(
    interval: NoiseInterval, levels: list[list[float]]
) -> None:
    sigma, raw = torch.tensor(levels), clips(2)
    made, predicted = run(sigma, interval, raw), prediction(sigma, interval, raw)
    error = (predicted - target(clips(0), interval)).square().mean(dim=(2, 3, 4))
    torch.testing.assert_close(made.loss, (weight_of(sigma) * error).mean())
    torch.testing.assert_close(made.clean, clean_estimate(predicted, interval))


def test_a_level_of_the_whole_clip_weighs_its_error_once() -> None:
    """To the last bit: a clip's one weight multiplies the mean over all of it."""
    levels, raw = torch.tensor([[0.3] * 4, [1.7] * 4]), clips(2)
    made = run(levels, PLAIN, raw)
    error = (made.clean - clips(0)).square().mean(dim=(1, 2, 3, 4))
    assert torch.equal(made.loss, (weight_of(levels[:, 0]) * error).mean())


def test_a_network_that_undoes_the_noise_has_no_loss() -> None:
    levels = torch.tensor([[0.6] * 4, [0.9, 0.6, 2.0, 0.7]])
    zero = torch.zeros(2, 4, 3, 4, 4)
    skipped = prediction(levels, HALF_RATE, zero)
    scale = prediction(levels, HALF_RATE, zero + 1) - skipped
    made = run(levels, HALF_RATE, (target(clips(0), HALF_RATE) - skipped) / scale)
    assert made.loss.item() < 1e-9
    torch.testing.assert_close(made.clean, clips(0), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("kind", "answer"), [("flow", (-1.0, 1.0)), ("ddim", (0.0, 1.0))])
def test_clips_have_the_noise_that_the_process_says(
    kind: Literal["flow", "ddim"], answer: tuple[float, float]
) -> None:
    """In units of x, not of the level: the true velocity, or ε, then restores the clip."""
    process = build_process(ProcessConfig(kind=kind))
    raw = answer[0] * clips(0) + answer[1] * clips(1)
    levels, time = torch.tensor([[0.6] * 4, [0.9, 0.6, 2.0, 0.7]]), torch.arange(4.0)
    made = reconstruct(process, lambda *_: raw, clips(0), clips(1), levels, time, PLAIN)
    assert made.loss.item() < 1e-9
    torch.testing.assert_close(made.clean, clips(0), atol=1e-5, rtol=1e-4)


def test_given_slots_count_for_nothing() -> None:
    levels, raw = torch.tensor([[0.0, 0.6, 0.6, 0.6], [0.0] * 4]), clips(2)
    made = run(levels, PLAIN, raw)
    assert made.loss.isfinite()
    assert made.each[1] == 0
    assert torch.equal(made.clean[0, 0], clips(0)[0, 0])
    # Of a stage, too, where what is learned is not the clip that is given.
    assert run(torch.zeros(2, 4), HALF_RATE, raw).loss == 0
    alone = run(torch.full((2, 4), 0.6), PLAIN, raw)
    error = (alone.clean - clips(0))[0, 1:].square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(made.each[0], (weight_of(levels[0, 1:]) * error).sum() / 4)


def test_a_share_of_the_loss_is_each_slots() -> None:
    levels, raw = torch.tensor([[0.3, 0.3, 0.0, 0.3], [1.7] * 4]), clips(2)
    share = torch.tensor([[0.5, 1.0, 0.0, 0.0], [1.0] * 4])
    whole, part = run(levels, PLAIN, raw), run(levels, PLAIN, raw, share)
    assert torch.equal(whole.clean, part.clean)
    assert whole.each[1] == part.each[1]
    error = (part.clean - clips(0))[0].square().mean(dim=(1, 2, 3))
    expected = weight_of(levels[0, :1]) * (0.5 * error[0] + error[1]) / 4
    torch.testing.assert_close(part.each[:1], expected)


@pytest.mark.parametrize("interval", [PLAIN, HALF_RATE])
def test_given_slots_stay_clean_beside_noisy_ones_of_any_stage(interval: NoiseInterval) -> None:
    """Also an odd slot, of which the stage's path elsewhere shows the frame before."""
    seen: list[Tensor] = []
    levels = torch.tensor([[0.0, 0.0, 0.9, 0.9]] * 2)

    def network(x: Tensor, *_: object) -> Tensor:
        seen.append(x)
        return clips(2)

    made = reconstruct(EDM, network, clips(0), clips(1), levels, torch.arange(4.0), interval)
    into = EDM.coefficients(levels).into
    torch.testing.assert_close(seen[0][:, :2] / into[0, 0], clips(0)[:, :2])
    assert torch.equal(made.clean[:, :2], clips(0)[:, :2])


def test_weights_of_very_different_size_keep_their_precision() -> None:
    squares, weight = torch.ones(1, 2, 1, 1, 1), torch.tensor([[1e30, 1e-30]])
    assert weighted_mean(squares, weight).item() == pytest.approx(5e29)
