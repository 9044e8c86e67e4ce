from dataclasses import replace

import numpy as np
import pytest
import torch

from shards import UsageError
from trainer.config import SmoothnessConfig
from trainer.temporal.plan import reorder, window
from trainer.terms.smoothness import Smoothness, code, formula, in_order
from trainer.terms.term import Step

ALPHA = 0.3


def random_clips(slots: int = 5) -> torch.Tensor:
    return torch.randn(2, slots, 3, 4, 6, generator=torch.Generator().manual_seed(slots))


def step_of(clips: torch.Tensor, **given) -> Step:
    return Step(clean=clips, levels=torch.ones(clips.shape[:2]), **given)


def test_the_formulas_second_term_is_its_first_and_squares_are_summed() -> None:
    clips = random_clips()
    squares = sum(((clips[:, t] - clips[:, t - 1]) ** 2).sum((1, 2, 3)) for t in range(1, 5))
    torch.testing.assert_close(formula(clips, ALPHA), (1 + ALPHA) * squares)
    torch.testing.assert_close(formula(2 * clips, ALPHA), 4 * formula(clips, ALPHA))


def test_the_codes_terms_are_means_of_absolute_first_and_second_differences() -> None:
    clips = random_clips()
    first = [(clips[:, t] - clips[:, t - 1]).abs().mean((1, 2, 3)) for t in range(1, 5)]
    second = [
        (clips[:, t + 1] - 2 * clips[:, t] + clips[:, t - 1]).abs().mean((1, 2, 3))
        for t in range(1, 4)
    ]
    expected = torch.stack(first).mean(0) + ALPHA * torch.stack(second).mean(0)
    torch.testing.assert_close(code(clips, ALPHA), expected)
    torch.testing.assert_close(code(2 * clips, ALPHA), 2 * code(clips, ALPHA))


def test_text_and_code_are_two_losses() -> None:
    """Steady motion has no second difference, but the text's second term is all there."""
    steady = torch.arange(6.0).view(1, 6, 1, 1, 1).expand(1, 6, 3, 2, 2)
    assert code(steady, ALPHA).item() == pytest.approx(1)
    assert formula(steady, ALPHA).item() == pytest.approx((1 + ALPHA) * 5 * 12)


@pytest.mark.parametrize(("slots", "expected"), [(1, 0.0), (2, 1.0)])
def test_two_slots_have_no_second_difference(slots: int, expected: float) -> None:
    clips = torch.arange(float(slots)).view(1, slots, 1, 1, 1).expand(1, slots, 3, 2, 2)
    for alpha in (0.0, 5.0):
        assert code(clips, alpha).tolist() == [expected]


def test_standing_still_is_its_minimum() -> None:
    still = random_clips()[:, :1].expand(-1, 5, -1, -1, -1)
    assert formula(still, ALPHA).tolist() == code(still, ALPHA).tolist() == [0, 0]


@pytest.mark.parametrize("form", ["formula", "code"])
def test_the_loss_is_the_named_forms_mean_over_samples(form) -> None:
    clips = random_clips().requires_grad_()
    config = SmoothnessConfig(weight=0.1, form=form, alpha=0.5)
    loss, logs = Smoothness(config)(step_of(clips))
    value = {"formula": formula, "code": code}[form](clips, 0.5).mean()
    assert loss.item() == pytest.approx(0.1 * value.item())
    assert logs["smoothness"].item() == pytest.approx(value.item())
    assert not logs["smoothness"].requires_grad
    loss.backward()
    assert clips.grad is not None
    assert clips.grad.flatten(2).any(2).all()
    assert Smoothness(config).bounds(step_of(clips)) == {}


def test_a_shuffled_clip_is_judged_in_the_order_of_its_frames() -> None:
    clips, order = random_clips(), np.array([0, 3, 1, 2, 4])  # not its own inverse
    plans = (reorder(window(4, 5), order), window(0, 5))
    shuffled = torch.stack([clips[0, order], clips[1]])
    assert torch.equal(in_order(step_of(shuffled, plans=plans)), clips)
    config = SmoothnessConfig(weight=1.0)
    straight, put_back = (
        Smoothness(config)(step_of(x, plans=p))[0]
        for x, p in ((clips, (window(0, 5),) * 2), (shuffled, plans))
    )
    assert torch.equal(straight, put_back)
    assert Smoothness(config)(step_of(shuffled))[0] != straight


def test_latents_of_shuffled_frames_have_no_order() -> None:
    plan = reorder(window(0, 5), np.array([0, 3, 2, 1, 4]))
    step = step_of(random_clips(3), plans=(plan, plan))
    with pytest.raises(UsageError, match=r"5 frames .* 3 latents .*fluxflow.mode to off"):
        Smoothness(SmoothnessConfig(weight=1.0))(step)
    assert in_order(replace(step, plans=(window(0, 5),) * 2)) is step.clean
