import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from flow_cache import FlowField, flip
from tests.trainer.terms.clips import pixels, rows, targets_of
from trainer.config import WarpingConfig
from trainer.stream.batch import FlowTargets
from trainer.temporal.plan import reorder, window
from trainer.terms.term import Step
from trainer.terms.warping import SOFT, WarpingLoss

LOSS = WarpingLoss(WarpingConfig(weight=1.0), psi=0.5)
MOTION = (3, 1)  # pixels a frame, to the right and down


def moving(slots: int = 3, size: tuple[int, int] = (24, 32)) -> tuple[torch.Tensor, FlowTargets]:
    """A clip of random pixels that all move by `MOTION`, and its flow with true visibility."""
    height, width = size
    dx, dy = MOTION
    generator = torch.Generator().manual_seed(0)
    canvas = torch.randn(3, height + slots * dy, width + slots * dx, generator=generator)
    frames = [
        canvas[:, (slots - t) * dy :, (slots - t) * dx :][:, :height, :width] for t in range(slots)
    ]
    flow = torch.tensor(MOTION).float().view(1, 1, 2, 1, 1).expand(1, slots - 1, -1, *size).clone()
    visible = torch.zeros(1, slots - 1, *size, dtype=torch.bool)
    visible[..., : height - dy, : width - dx] = True
    return torch.stack(frames)[None], targets_of(flow, visible)


def cost(clips: torch.Tensor, targets: FlowTargets | None, loss: WarpingLoss = LOSS) -> float:
    step = Step(clean=clips, levels=rows(clips, 0.1), targets=targets)
    return loss(step)[0].item()


def test_a_clip_that_moves_as_its_flow_says_costs_nothing() -> None:
    clips, targets = moving()
    assert cost(clips, targets) < 1e-10


def test_the_frame_that_is_sampled_is_the_one_the_flow_leads_to() -> None:
    """The article samples I_{t−1} by F_{t−1→t}: here, the other way around, or backward flow."""
    clips, targets = moving()
    wrong = (
        replace(targets, slots=targets.slots.flip(-1)),
        replace(targets, flow=-targets.flow),
    )
    for targets in wrong:
        assert cost(clips, targets) > 0.1


def test_hidden_pixels_count_for_nothing_whatever_they_hold() -> None:
    clips, targets = moving()
    spoiled = clips.clone()
    spoiled[:, 0, :, :, -MOTION[0] :] = 9.0  # what leaves the frame
    assert cost(spoiled, targets) < 1e-10
    everywhere = replace(targets, visible=torch.ones_like(targets.visible))
    assert cost(clips, everywhere) > 0.05
    nowhere = replace(targets, visible=torch.zeros_like(targets.visible))
    assert cost(clips, nowhere) == 0


def test_hidden_flow_that_is_no_number_leaves_loss_and_gradient_alone() -> None:
    clips, targets = moving()
    hidden = ~targets.visible[:, :, None].expand_as(targets.flow)
    targets.flow[hidden] = float("nan")
    clips.requires_grad_()
    loss, _ = LOSS(Step(clean=clips, levels=rows(clips, 0.1), targets=targets))
    loss.backward()
    assert loss < 1e-10
    assert clips.grad is not None
    assert clips.grad.isfinite().all()


def test_differences_are_squared_and_averaged_over_visible_pixels() -> None:
    """Of intensities in [0, 1]; the warping error of `metrics` takes their absolute value."""
    clips, targets = moving(2)
    brighter = torch.stack([clips[:, 0], clips[:, 1] + 0.2 * 255 / 128], dim=1)
    assert cost(brighter, targets) == pytest.approx(0.2**2, rel=1e-4)
    soft = WarpingLoss(WarpingConfig(weight=1.0, penalty="charbonnier"), psi=0.5)
    assert cost(brighter, targets, soft) == pytest.approx(math.hypot(0.2, SOFT) - SOFT, rel=1e-4)
    assert cost(clips, targets, soft) < 1e-6


def test_a_pair_is_gated_by_the_larger_of_its_levels_and_only_what_passes_is_decoded() -> None:
    clips, targets = moving(4)
    clips, two = clips.repeat(3, 1, 1, 1, 1), torch.tensor([0, 2])
    targets = replace(
        targets,
        rows=two,
        **{x: getattr(targets, x).repeat_interleave(2, 0) for x in ("slots", "hops")},
        **{x: getattr(targets, x).repeat_interleave(2, 0) for x in ("flow", "visible")},
    )
    clips[0, 1] += 255 / 128  # slot 1 of sample 0 is brighter by 1: pairs 0-1 and 1-2 cost 1
    levels = torch.full((3, 4), 0.9)
    levels[0] = torch.tensor([0.4, 0.9, 0.4, 0.4])  # pair 2-3 alone passes
    decoded: list[int] = []

    def decode(latents: torch.Tensor) -> torch.Tensor:
        decoded.append(len(latents))
        return (latents * 128 + 127.5) / 255

    step = Step(clean=clips, levels=levels, targets=targets, decode=decode)
    assert LOSS(step)[0] < 1e-10
    assert decoded == [1]
    open_gate = replace(step, levels=torch.full((3, 4), 0.4))
    loss, logs = LOSS(open_gate)
    assert loss.item() == pytest.approx(2 / 3 / 3, rel=1e-4)  # of three samples, one without flow
    assert logs["warping"].item() == pytest.approx(2 / 3 / 2, rel=1e-4)  # of two with flow
    shut = LOSS(replace(step, levels=torch.full((3, 4), 0.5)))
    assert (shut[0].item(), shut[0].requires_grad) == (0, False)
    assert math.isnan(shut[1]["warping"])


def test_without_targets_it_is_a_constant_zero() -> None:
    clips, _ = moving()
    assert cost(clips, None) == 0
    assert LOSS.bounds(Step(clean=clips, levels=rows(clips, 0.1))) == {}


def test_a_shuffled_clip_costs_what_the_straight_one_does(made) -> None:
    """With a real dataset's stored flow, of visible pixels alone; and the truth has a floor."""
    plan, order = window(0, 8), np.array([0, 5, 2, 3, 4, 1, 6, 7])
    costs = []
    for shown in (plan, reorder(plan, order)):
        clips = made.stored(2, shown)[None]
        costs.append(cost(clips, made.targets({2: shown})))
    assert costs[0] == costs[1]
    clips, targets = made.stored(2, plan)[None], made.targets({2: plan})
    step = Step(clean=clips, levels=rows(clips, 9.0), targets=targets, true=pixels(clips))
    floor = LOSS.bounds(step)["warping_floor"].item()
    assert floor == pytest.approx(costs[0])
    still = cost(clips, replace(targets, flow=torch.zeros_like(targets.flow)))
    assert floor < still / 3
    # Mirrored clips with mirrored flow cost the same: x grows to the right.
    field = flip(FlowField(flow=targets.flow[0], visible=targets.visible[0]))
    mirrored = replace(targets, flow=field.flow[None], visible=field.visible[None])
    assert cost(clips.flip(-1), mirrored) == pytest.approx(floor, rel=1e-3)


def test_gradient_reaches_both_frames_of_a_pair() -> None:
    clips, targets = moving(2)
    clips = (clips + 0.1 * torch.randn(clips.shape)).requires_grad_()
    LOSS(Step(clean=clips, levels=rows(clips, 0.1), targets=targets))[0].backward()
    assert clips.grad is not None
    assert clips.grad.flatten(2).any(2).all()
