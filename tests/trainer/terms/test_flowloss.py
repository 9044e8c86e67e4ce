from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import ClassVar, NoReturn

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.flowloss import Kernels, Waits, problem
from flow_cache.coding.codec import decode_field, encode_field
from flow_cache.estimators import load_estimator
from flow_cache.estimators.variational.relaxation import relax
from flow_cache.occlusion import visibility
from flow_cache.spec import JSON, Pair
from fluxshard.demo.scenes import Scene, random_scene
from shards.store import UsageError
from tests.trainer.terms.clips import judge, pixels, rows, still, targets_of
from trainer.codec.pixels import to_signal
from trainer.config import FlowLossConfig
from trainer.temporal.fluxflow import shuffle_frames
from trainer.temporal.plan import reorder, subsample, window
from trainer.terms.flowloss import FlowLoss
from trainer.terms.term import Step
from trainer.terms.weights import sigma_weight

CONFIG = FlowLossConfig(weight=1.0)
MAX_ERROR = 1 / 32


class Fixed:
    """An estimator that answers with one known motion and counts its calls."""

    name, revision, weights_sha256 = "fixed", "1", None
    params: ClassVar[dict[str, JSON]] = {}
    differentiable, whole_clip = True, False

    def __init__(self, motion: tuple[float, float]) -> None:
        self.motion, self.calls, self.pairs = torch.tensor(motion).view(1, 2, 1, 1), 0, 0

    def check_size(self, size: tuple[int, int]) -> None:
        pass

    def clip(self, frames: Tensor, pairs: Sequence[Pair]) -> NoReturn:
        raise AssertionError("the loss needs gradients, which `clip` does not give")

    def pair(self, first: Tensor, second: Tensor) -> Tensor:
        self.calls, self.pairs = self.calls + 1, self.pairs + len(first)
        return self.motion + 0 * (first + second).mean(1, keepdim=True)


def test_a_shift_of_3_and_2_pixels_costs_13_where_visible_and_3_9_where_occluded() -> None:
    clips, targets = still(1, 2)
    targets.visible[:, :, :, :2] = False  # a quarter of the pixels
    loss = FlowLoss(CONFIG, Fixed((3, -2)))
    expected = 0.75 * 13 + 0.25 * 3.9
    terms = judge(loss, clips, rows(clips, 0.25), targets)
    assert terms.error.tolist() == pytest.approx([expected])
    assert terms.loss.item() == pytest.approx(expected / 0.25**2)


def test_sum_and_mean_differ_by_the_papers_factor() -> None:
    clips, targets = still(1, 14, (256, 384))
    targets = replace(targets, flow=torch.randn(1, 14, 2, 256, 384))
    total, mean = (
        judge(
            FlowLoss(replace(CONFIG, reduction=how), Fixed((0, 0))),
            clips,
            rows(clips, 0.25),
            targets,
        )
        for how in ("sum", "mean")
    )
    assert (total.loss / mean.loss).item() == pytest.approx(1e-6 * 14 * 256 * 384, rel=1e-5)
    assert (total.loss / mean.loss).item() == pytest.approx(1.376, abs=5e-4)


@pytest.mark.parametrize("open_samples", [0, 1, 3])
def test_one_call_estimates_the_samples_that_pass_the_gate(open_samples: int) -> None:
    estimator = Fixed((1, 0))
    clips, targets = still(4, 3)
    levels = rows(clips, *[0.1] * open_samples, *[0.7] * (4 - open_samples))
    terms = judge(FlowLoss(CONFIG, estimator), clips, levels, targets)
    assert (estimator.calls, estimator.pairs) == (min(open_samples, 1), 3 * open_samples)
    assert open_samples == len(terms.error)
    assert terms.loss.item() == pytest.approx(open_samples * 100 / 4)
    assert terms.loss.requires_grad == (open_samples > 0)


def test_a_pair_is_gated_and_weighed_by_the_larger_of_its_two_levels() -> None:
    clips, targets = still(2, 4)
    levels = torch.tensor([[0.1, 0.2, 0.4, 0.7, 0.1], [0.7, 0.1, 0.7, 0.1, 0.7]])
    estimator = Fixed((1, 0))
    terms = judge(FlowLoss(CONFIG, estimator), clips, levels, targets)
    # Pairs 0-1 and 1-2 of the first clip pass; the second clip has none.
    assert terms.loss.item() == pytest.approx((1 / 0.2**2 + 1 / 0.4**2) / 4 / 2)
    assert terms.error.tolist() == [1]  # of the pairs that passed
    assert (estimator.calls, estimator.pairs) == (1, 2)


def test_equal_levels_are_one_level_to_the_last_bit(made) -> None:
    """The clip's one weight multiplies its one error, as if pairs had no levels of their own."""
    plan, loss = window(0, 8), FlowLoss(CONFIG, load_estimator("variational"))
    clips, targets = made.stored(2, plan)[None], made.targets({2: plan})
    terms = judge(loss, clips, rows(clips, 0.3), targets)
    assert torch.equal(terms.loss, (sigma_weight(torch.tensor([0.3]), CONFIG) * terms.error).sum())


def test_without_targets_the_loss_is_a_constant_zero() -> None:
    estimator = Fixed((1, 0))
    clips, _ = still(2, 3)
    terms = judge(FlowLoss(CONFIG, estimator), clips, rows(clips, 0.1), None)
    assert (terms.loss.item(), terms.loss.requires_grad, estimator.calls) == (0.0, False, 0)


def test_targets_find_their_samples_and_the_loss_is_per_sample_of_the_batch() -> None:
    clips, targets = still(4, 3)
    parts = ("flow", "slots", "hops", "visible")
    first = {name: getattr(targets, name)[:1] for name in parts}
    some = replace(targets, rows=torch.tensor([2]), **first)
    terms = judge(FlowLoss(CONFIG, Fixed((1, 0))), clips, rows(clips, 0.7, 0.7, 0.1, 0.7), some)
    assert terms.loss.item() == pytest.approx(100 / 4)
    terms.loss.backward()
    assert clips.grad is not None
    assert not clips.grad.any()  # the fixed estimator looks at nothing


def test_unsupervised_pairs_do_not_count_and_chains_carry_nothing_through_occlusion() -> None:
    clips, targets = still(1, 3)
    hops = torch.tensor([[1, 2, 0]])
    targets = replace(targets, hops=hops, visible=torch.zeros_like(targets.visible))
    loss = FlowLoss(CONFIG, Fixed((1, 0)))
    assert judge(loss, clips, rows(clips, 0.25), targets).error.item() == pytest.approx(0.3 / 2)
    terms = judge(loss, clips, rows(clips, 0.25), targets)
    assert terms.pairs.tolist() == [
        [0, 0, 1],
        [0, 1, 2],
    ]  # what nothing supervises is not estimated
    targets = replace(targets, hops=hops * 0)
    assert judge(loss, clips, rows(clips, 0.25), targets).error.item() == 0


def test_source_frames_cost_no_more_than_the_quantiser(made) -> None:
    loss = FlowLoss(CONFIG, load_estimator("variational"))
    for stride, stage in ((1, 1), (2, 2), (4, 3)):
        plan = subsample(window(0, 8), stride, stage)
        clips = torch.stack([made.source(row, plan) for row in range(6)])
        targets = made.targets(dict.fromkeys(range(6), plan))
        error = judge(loss, clips, rows(clips, 0.1), targets).error
        assert (error <= 2 * MAX_ERROR**2).all()
        for row in range(6):  # and it is the quantiser's error, nothing else
            pairs = [tuple(pair) for pair in plan.src_index[targets.slots[row]].tolist()]
            exact = torch.cat([made.fields[row][pair].flow for pair in pairs])
            rounding = (exact - targets.flow[row]).square().sum(1)
            weight = torch.where(targets.visible[row], 1.0, 0.3)
            torch.testing.assert_close(error[row], (rounding * weight).mean())


def test_the_floor_is_the_cost_of_the_stored_clip(made) -> None:
    loss, plan = FlowLoss(CONFIG, load_estimator("variational")), window(0, 8)
    targets = made.targets({0: plan, 1: plan})
    stored = torch.stack([made.stored(n, plan) for n in (0, 1)])
    source = torch.stack([made.source(n, plan) for n in (0, 1)])
    terms = judge(loss, stored, rows(stored, 1 / 9), targets)
    of_stored, of_source = (
        loss.bounds(Step(clean=clips, levels=rows(clips, 9.0), targets=targets, true=pixels(clips)))
        for clips in (stored.clone().requires_grad_(), source)
    )
    floor = of_stored["flow_floor"]
    assert floor.item() == pytest.approx(terms.error.mean().item())
    assert floor.item() > of_source["flow_floor"].item()
    assert not floor.requires_grad
    # Beside it, what a clip costs that stands still: all of the motion that there is.
    weight = torch.where(targets.visible, 1.0, CONFIG.occluded_weight)
    motion = (weight * targets.flow.square().sum(2)).mean()
    assert of_stored["flow_still"].item() == pytest.approx(motion.item(), rel=1e-5)
    frozen = stored[:, :1].expand_as(stored)
    terms = judge(loss, frozen, rows(frozen, 1 / 9), targets)
    assert of_stored["flow_still"].item() == pytest.approx(terms.error.mean().item())
    assert of_stored["flow_still"].item() > 3 * floor.item()


@pytest.mark.parametrize("seed", range(3))
def test_a_shuffled_clip_put_back_costs_exactly_the_same(made, seed: int) -> None:
    loss, straight = FlowLoss(CONFIG, load_estimator("variational")), window(0, 8)
    order = shuffle_frames(np.random.default_rng(seed), 8, 6, derangement=True)
    costs = []
    for plan in (straight, reorder(straight, order)):
        clips = made.stored(2, plan)[None]
        costs.append(judge(loss, clips, rows(clips, 1 / 9), made.targets({2: plan})).error)
    assert torch.equal(*costs)


def test_comparing_in_the_shuffled_order_knows_of_the_shuffle(made) -> None:
    """Composed flow is off by interpolation and estimation errors, plain stored flow by far."""
    plan = reorder(window(0, 8), np.array([0, 1, 5, 3, 4, 2, 6, 7]))
    clips = made.source(1, plan)[None]
    loss = FlowLoss(CONFIG, load_estimator("variational"))
    composed, neighbours = (
        judge(loss, clips, rows(clips, 1 / 9), made.targets({1: plan}, order)).error.item()
        for order in ("composed", "neighbours")
    )
    unaware = judge(loss, clips, rows(clips, 1 / 9), made.targets({1: window(0, 8)})).error.item()
    assert composed < unaware / 5
    assert neighbours <= 2 * MAX_ERROR**2


def moving(scene: Scene, by: tuple[float, float]) -> Scene:
    """The scene with everything in it moving by so many pixels a frame more."""
    surfaces = [
        replace(
            surface,
            motion=replace(
                surface.motion,
                velocity=(surface.motion.velocity[0] + by[0], surface.motion.velocity[1] + by[1]),
            ),
        )
        for surface in scene.surfaces
    ]
    return replace(scene, surfaces=tuple(surfaces))


def test_a_clip_that_moves_3_and_2_pixels_further_costs_13_a_visible_pixel() -> None:
    """With the real estimator, codec and occlusion, on a textured scene of known motion."""
    size, times, estimator = (128, 160), [0.0, 1.0, 2.0], load_estimator("variational")
    scene = random_scene(5, size, objects=1, speed=1.0)
    true, shifted = (torch.from_numpy(s.clip(times)) for s in (scene, moving(scene, (3, -2))))
    forward, _ = estimator.clip(true, [(0, 1), (1, 2)])
    backward, _ = estimator.clip(true, [(1, 0), (2, 1)])
    visible = visibility(forward, backward, "fb-sundaram2010")
    stored = [
        decode_field(
            encode_field(f, v, pair=(0, 1), max_error_px=MAX_ERROR, spec_digest="0" * 64)
        ).flow
        for f, v in zip(forward, visible, strict=True)
    ]
    targets = targets_of(torch.stack(stored)[None], visible[None])
    loss = FlowLoss(CONFIG, estimator)
    same, further = (
        judge(loss, to_signal(clip[None]), torch.full((1, 3), 1 / 9), targets).error.item()
        for clip in (true, shifted)
    )
    share = visible.float().mean().item()
    predicted = 13 * share + 3.9 * (1 - share)
    assert same <= 2 * MAX_ERROR**2
    # The strip that enters the frame has no match, and is the estimator's to guess.
    assert further == pytest.approx(predicted, rel=0.1)


def test_gradient_reaches_the_clips_that_pass_and_no_others(made) -> None:
    plan = window(0, 8)
    clips = torch.stack([made.stored(n, plan) for n in (0, 1)]).requires_grad_()
    targets = made.targets({0: plan, 1: plan})
    loss = FlowLoss(CONFIG, load_estimator("variational"))
    judge(loss, clips, rows(clips, 0.1, 0.9), targets).loss.backward()
    assert clips.grad is not None
    assert clips.grad[0].flatten(1).any(1).all()
    assert clips.grad.isfinite().all()
    assert not clips.grad[1].any()


def test_a_pixel_that_is_no_number_costs_its_pairs_alone_and_they_are_named(made) -> None:
    """Neither the loss nor the gradient of any other pair has a bit of it."""
    plan, loss = window(0, 8), FlowLoss(CONFIG, load_estimator("variational"))
    clips = torch.stack([made.stored(n, plan) for n in (0, 1)])
    targets = made.targets({0: plan, 1: plan})
    broken = clips.clone()
    broken[0, 2, 1, 20, 30] = float("nan")
    broken, clips = broken.requires_grad_(), clips.requires_grad_()
    terms = judge(loss, broken, rows(broken, 0.1), targets)
    lost = terms.pairs[~terms.sound]
    assert lost.tolist() == [[0, 1, 2], [0, 2, 3]]  # (sample, first slot, second slot)
    terms.loss.backward()
    assert broken.grad is not None
    assert broken.grad.isfinite().all()
    assert not broken.grad[0, 2].any()

    left_out = replace(targets, hops=targets.hops.clone())
    left_out.hops[0, 1:3] = 0
    expected = judge(loss, clips, rows(clips, 0.1), left_out)
    expected.loss.backward()
    assert clips.grad is not None
    torch.testing.assert_close(terms.error, expected.error)  # sums of more and of fewer numbers
    assert torch.equal(broken.grad[1], clips.grad[1])
    # The mean of the loss is over all pairs that are supervised, lost or not.
    torch.testing.assert_close(broken.grad[0] * 7, clips.grad[0] * 5, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("as_in_production")
def test_no_step_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """On shapes alone, by the way that every accelerator takes; the first call brings constants."""
    monkeypatch.setattr(  # all sweeps are alike
        "flow_cache.estimators.variational.solver.relax",
        lambda system, right, start, _: relax(system, right, start, 1),
    )
    loss = FlowLoss(CONFIG, load_estimator("variational"))
    with Kernels() as one_pair:
        judge(loss, *problem(1, 2, (32, 32), "meta")).loss.backward()
    given = problem(2, 3, (32, 32), "meta")
    with Waits() as waits, Kernels() as four_pairs:
        terms = judge(loss, *given)
        terms.loss.backward()
    assert not waits.counts.total(), waits.counts
    assert terms.sound.device.type == "meta"
    assert four_pairs.counts.total() < 1.02 * one_pair.counts.total()  # one call


def test_what_waits_is_noticed() -> None:
    values, mask = torch.zeros(3, device="meta"), torch.zeros(3, dtype=torch.bool, device="meta")
    with Waits() as waits:
        values.new_tensor([1.0])
        torch.zeros(3).to("meta")
        values[torch.tensor([0])]
        for read in (values.nonzero, lambda: values[mask], values.sum().item):
            with suppress(RuntimeError, NotImplementedError):  # meta has no values to read
                read()
    assert waits.counts.total() >= 3
    with Waits() as waits:
        torch.zeros(3).to("meta", non_blocking=True)
        torch.zeros(3)[torch.tensor([0])].tolist()
        values[None, 1:] * 2
    assert not waits.counts.total()


def test_an_estimator_without_gradients_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'dis' does not: .*flow_loss.estimator"):
        FlowLoss(CONFIG, load_estimator("dis"))
