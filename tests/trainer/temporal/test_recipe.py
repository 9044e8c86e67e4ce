from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Literal

import jaxtyping
import numpy as np
import pytest

from flow_cache.spec import level_pairs
from shards import UsageError
from trainer.config import (
    FlowLossConfig,
    FluxFlowConfig,
    ProcessConfig,
    PyramidConfig,
    StreamConfig,
    TrainConfig,
    WarpingConfig,
)
from trainer.spatial.framing import Framing
from trainer.temporal.plan import supervise, window
from trainer.temporal.recipe import (
    ClipFacts,
    PlainRecipe,
    SamplePlan,
    TrainRecipe,
    law_parts,
)
from trainer.temporal.stages import Stage, stages

CONFIG = TrainConfig(stream=StreamConfig(frames=8))
STAGES = stages(CONFIG.pyramid)
PAIRS = level_pairs(17, (1, 2, 4))
FACTS = ClipFacts(frames=17, flow_pairs=())


def sample(config: TrainConfig, position: int, stage: Stage, frames: int = 17) -> SamplePlan:
    return TrainRecipe(config).sample(position, ClipFacts(frames=frames, flow_pairs=()), stage)


@pytest.mark.parametrize("odds", ["law", "equal"])
def test_stages_are_drawn_by_their_odds_and_by_batch_number(odds: Literal["law", "equal"]) -> None:
    config = replace(CONFIG, pyramid=PyramidConfig(odds=odds))
    ours, other = TrainRecipe(config), TrainRecipe(replace(config, seed=1))
    drawn = Counter(ours.group(batch).number for batch in range(3000))
    for number, part in enumerate(law_parts(config), 1):
        share = part.odds if odds == "law" else 1 / 3
        # Five standard deviations of a count.
        assert abs(drawn[number] - 3000 * share) < 5 * (3000 * share * (1 - share)) ** 0.5
    assert ours.group(17) == ours.group(17)
    assert [ours.group(b) for b in range(30)] != [other.group(b) for b in range(30)]


@pytest.mark.parametrize("psi", [0.0, 0.01])
def test_a_gate_that_hardly_ever_opens_is_refused(psi: float) -> None:
    shut = FlowLossConfig(psi=psi)
    off = replace(shut, weight=0.0)
    for losses in ({"flow_loss": shut}, {"flow_loss": off, "warping": WarpingConfig(weight=1.0)}):
        with pytest.raises(
            UsageError, match=rf"flow_loss.psi {psi:g} is above 0\.\d\d% of the noise"
        ):
            TrainRecipe(replace(CONFIG, **losses))
    TrainRecipe(replace(CONFIG, flow_loss=off))


def test_how_often_the_gate_opens_is_told_from_all_stages() -> None:
    """Nearly all levels of a law are coarse; drawn as often as others, that stage is a third."""
    noisy = replace(CONFIG, process=ProcessConfig(mean=4.0, std=1.5))
    with pytest.raises(UsageError, match=r"psi 0\.5 is above 0\.09% of the noise levels"):
        TrainRecipe(noisy)
    TrainRecipe(replace(noisy, pyramid=PyramidConfig(odds="equal")))


@pytest.mark.usefixtures("as_in_production")
def test_a_pyramid_leaves_the_law_of_levels_as_it_is() -> None:
    """A comparison of a run with a pyramid and one without then tests one thing."""
    drawn = []
    for pyramid in (PyramidConfig(), PyramidConfig(enabled=False)):
        recipe = TrainRecipe(replace(CONFIG, pyramid=pyramid))
        plans = [recipe.sample(p, FACTS, recipe.group(p)) for p in range(1200)]
        drawn.append(np.sort([plan.levels[0] for plan in plans if plan.levels is not None]))
    below = [np.searchsorted(levels, [0.1, 0.3, 0.6, 1.0, 2.5]) / 1200 for levels in drawn]
    assert np.abs(below[0] - below[1]).max() < 5 * (2 * 0.25 / 1200) ** 0.5


@pytest.mark.parametrize("by", ["sample", "batch"])
@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_slots_draw_levels_of_their_own_in_a_share_of_the_clips(
    share: float, by: Literal["sample", "batch"]
) -> None:
    config = replace(CONFIG, process=ProcessConfig(per_slot=share, per_slot_by=by))
    batch = config.stream.batch
    vectors = []
    for position in range(100 * batch):
        levels = sample(config, position, STAGES[1]).levels
        assert levels is not None
        assert STAGES[1].interval.end <= levels.min()
        assert levels.max() <= np.float32(STAGES[1].interval.start)
        assert len(set(levels)) in (1, len(levels))
        vectors.append(len(set(levels)) > 1)
    draws = np.array(vectors).reshape(100, batch)
    if by == "batch":
        assert (draws.all(axis=1) == draws.any(axis=1)).all()
    elif 0 < share < 1:
        assert (draws.all(axis=1) != draws.any(axis=1)).any()
    trials = 100 if by == "batch" else 100 * batch
    assert abs(draws.mean() - share) <= 5 * (share * (1 - share) / trials) ** 0.5


@pytest.mark.parametrize("odds", ["law", "equal"])
def test_a_stage_above_all_levels_of_the_process_is_refused(
    odds: Literal["law", "equal"],
) -> None:
    pyramid = PyramidConfig(ends=(0.0, 2.0, 20.0), odds=odds)
    TrainRecipe(replace(CONFIG, pyramid=pyramid, process=ProcessConfig(kind="flow")))
    with pytest.raises(UsageError, match=r"kind ddim has no noise levels for stage 3, from 20 to "):
        TrainRecipe(replace(CONFIG, pyramid=pyramid, process=ProcessConfig(kind="ddim")))


def test_given_slots_are_clean_and_their_pairs_ask_for_no_flow() -> None:
    pyramid = PyramidConfig(enabled=False)
    config = replace(CONFIG, process=ProcessConfig(given=2, mean=-3.0), pyramid=pyramid)
    for position in range(20):
        found = TrainRecipe(config).sample(
            position, ClipFacts(frames=17, flow_pairs=PAIRS), stages(config.pyramid)[0]
        )
        assert found.levels is not None
        assert (found.levels[:2] == 0).all()
        assert (found.levels[2:] > 0).all()
        if found.supervision is not None:
            both = (found.levels[found.supervision.slots] == 0).all(axis=1)
            chains = found.supervision.chains
            assert not any(chain for chain, given in zip(chains, both, strict=True) if given)
    with pytest.raises(UsageError, match=r"process.given 2 leaves nothing to learn in the 2 slots"):
        replace(CONFIG, process=ProcessConfig(given=2))


@pytest.mark.parametrize("before_stride", [True, False])
def test_a_stage_begins_with_what_the_coarser_one_ends_with(before_stride: bool) -> None:
    """Equation 7: a stage starts from every second slot of its clip, held, and the coarser stage
    ends at its clip. Shuffled after the stride, the wrong order here, the finer stage starts from
    frames between those that the coarser one ever shows."""
    fluxflow = FluxFlowConfig(count=4, before_stride=before_stride)
    config = replace(CONFIG, fluxflow=fluxflow)
    for finer, coarser in pairwise(STAGES):
        begins, ends = (
            [sample(config, p, stage, frames=8).shown.src_index for p in range(400)]
            for stage in (finer, coarser)
        )
        halves = [tuple(index[::2]) for index in begins]
        if before_stride:
            assert halves == [tuple(index) for index in ends]
        else:
            between = np.mean([np.any(np.array(half) % coarser.stride) for half in halves])
            assert between > 0.2
            assert not np.any(np.array(ends) % coarser.stride)


def test_flow_is_read_for_the_pairs_alone_whose_both_levels_pass_the_gate() -> None:
    config = replace(CONFIG, process=ProcessConfig(per_slot=1.0))
    recipe, seen = TrainRecipe(config), 0
    for position in range(100):
        found = recipe.sample(position, ClipFacts(frames=17, flow_pairs=PAIRS), STAGES[0])
        assert found.levels is not None
        if found.supervision is not None:
            both = found.levels[found.supervision.slots].max(axis=1) < config.flow_loss.psi
            assert [bool(chain) for chain in found.supervision.chains] == both.tolist()
            seen += both.any() and not both.all()
    assert seen > 10


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("before_stride", [False, True])
def test_a_sample_is_a_function_of_its_position(stage, before_stride: bool) -> None:
    config = replace(CONFIG, fluxflow=FluxFlowConfig(before_stride=before_stride, ratio=0.5))
    for position in range(200):
        drawn, again = sample(config, position, stage), sample(config, position, stage)
        assert drawn.levels is not None
        assert again.levels is not None
        assert np.array_equal(drawn.levels, again.levels)
        assert drawn.shown.src_index.tolist() == again.shown.src_index.tolist()
        assert drawn.levels.shape == (8 // stage.stride,)
        assert np.ptp(drawn.levels) == 0
        assert stage.interval.end <= drawn.levels[0] <= np.float32(stage.interval.start)
        frames, start = drawn.shown.src_index, int(drawn.shown.window[0])
        assert start in (0, 4, 8)
        assert start <= frames.min()
        assert frames.max() < start + 8
        if not before_stride:
            assert (frames % stage.stride == 0).all()


@pytest.mark.parametrize("recipe", [PlainRecipe(8, seed=3), TrainRecipe(replace(CONFIG, seed=3))])
def test_what_is_shown_of_the_pictures_is_drawn_by_seed_and_position(recipe) -> None:
    config = StreamConfig(size="32x32", crop="random", flip=0.5)
    framing = Framing(stored=(48, 64), bucket=config.shapes[0], config=config)
    clip = ClipFacts(frames=17, flow_pairs=(), framing=framing)
    for position in range(20):
        plan = recipe.sample(position, clip, STAGES[0])
        assert plan.space == framing.draw(3, position) != framing.draw(4, position)
        assert recipe.sample(position, FACTS, STAGES[0]).space is None


@pytest.mark.parametrize("recipe", [PlainRecipe(seed=3), TrainRecipe(replace(CONFIG, seed=3))])
def test_a_sample_spans_the_frames_of_its_bucket(recipe) -> None:
    config = StreamConfig(buckets=("64x48x12", "64x48x16"))
    for bucket in config.shapes:
        framing = Framing(stored=(48, 64), bucket=bucket, config=config)
        clip = ClipFacts(frames=17, flow_pairs=(), framing=framing)
        assert len(recipe.sample(5, clip, STAGES[0]).shown) == bucket.frames
        assert len(recipe.sample(5, clip, STAGES[1]).shown) in (bucket.frames, bucket.frames // 2)
    assert len(PlainRecipe(8).sample(5, clip, STAGES[0]).shown) == 8


@pytest.mark.parametrize("before_stride", [False, True])
@pytest.mark.parametrize(("number", "slots"), [(1, 17), (2, 9), (3, 5)])
def test_windows_of_a_codec_of_4k_1_frames_fill_their_slots_at_every_stage(
    number: int, slots: int, before_stride: bool
) -> None:
    config = replace(
        CONFIG,
        stream=StreamConfig(frames=17),
        fluxflow=FluxFlowConfig(before_stride=before_stride, derangement=True),
    )
    plan = sample(config, 3, STAGES[number - 1])
    assert plan.levels is not None
    assert len(plan.shown) == len(plan.levels) == slots
    assert plan.shown.straight.tolist() == list(range(0, 17, 2 ** (number - 1)))


def test_positions_differ_in_all_that_is_drawn() -> None:
    draws = [sample(CONFIG, p, STAGES[0]) for p in range(300)]
    assert len({draw.levels[0] for draw in draws if draw.levels is not None}) == 300
    starts = Counter(int(draw.shown.window[0]) for draw in draws)
    assert all(abs(starts[s] - 100) < 5 * (300 * 2 / 9) ** 0.5 for s in (0, 4, 8))
    moved = np.mean([draw.shown.moved > 0 for draw in draws])  # two frames: half of the shuffles
    assert abs(moved - 0.5) < 5 * 0.5 / 300**0.5


def test_a_clip_of_just_the_window_starts_at_its_beginning() -> None:
    assert sample(CONFIG, 3, STAGES[0], frames=8).shown.window[0] == 0
    assert sample(CONFIG, 3, STAGES[0], frames=11).shown.window[0] == 0


def test_without_pyramid_and_shuffle_the_clip_is_straight() -> None:
    config = replace(
        CONFIG, pyramid=PyramidConfig(enabled=False), fluxflow=FluxFlowConfig(mode="off")
    )
    (stage,) = stages(config.pyramid)
    starts = set()
    for position in range(100):
        plan = sample(config, position, stage, frames=10).shown
        assert plan.moved == 0
        starts.add(int(plan.window[0]))
    assert starts == {0, 1, 2}


@pytest.mark.parametrize("before_stride", [False, True])
@pytest.mark.parametrize(
    "fluxflow",
    [
        FluxFlowConfig(),
        FluxFlowConfig(derangement=True),
        FluxFlowConfig(count=8),
        FluxFlowConfig(mode="block"),
        FluxFlowConfig(mode="block", block=4),
        FluxFlowConfig(mode="block", count=3, derangement=True),
    ],
    ids=str,
)
@pytest.mark.usefixtures("as_in_production")  # thousands of draws: what arrays are is checked above
def test_every_stage_moves_the_same_share_of_slots(
    fluxflow: FluxFlowConfig, before_stride: bool
) -> None:
    config = TrainConfig(fluxflow=replace(fluxflow, before_stride=before_stride))
    expected = float(config.fluxflow.dose(16)) * config.fluxflow.units(16)[1] / 16
    assert expected >= 1 / 16
    for stage in STAGES:
        moved = [sample(config, p, stage, frames=16).shown.moved for p in range(600)]
        # Five standard deviations of a mean, the deviation taken from the sample.
        assert abs(np.mean(moved) - expected) <= 5 * np.std(moved) / len(moved) ** 0.5 + 1e-12


def test_flow_is_wanted_below_the_gate_of_samples_with_a_pair() -> None:
    config, clip = TrainConfig(), ClipFacts(frames=17, flow_pairs=PAIRS)
    recipe, wanted = TrainRecipe(config), 0
    for position in range(300):
        found = recipe.sample(position, clip, STAGES[0])
        assert found.levels is not None
        assert (found.supervision is not None) == (found.levels.max() < config.flow_loss.psi)
        if found.supervision is not None:
            wanted += 1
            alone = supervise(found.shown, PAIRS, "restored", 8)
            assert found.supervision.chains == alone.chains
    assert wanted > 100
    every_stage = TrainRecipe(replace(config, flow_loss=FlowLossConfig(psi=100)))
    assert all(every_stage.sample(0, clip, stage).supervision for stage in STAGES)
    assert sample(config, 0, STAGES[0]).supervision is None  # no layer is open


def test_no_stage_above_the_gate_wants_flow() -> None:
    """At the defaults stage 2 begins where the gate closes."""
    clip = ClipFacts(frames=17, flow_pairs=PAIRS)
    for stage in STAGES[1:]:
        found = [TrainRecipe(CONFIG).sample(p, clip, stage).supervision for p in range(300)]
        assert not any(found)


@pytest.mark.parametrize("levels", [np.zeros(4), np.zeros(3, np.float32)])
def test_levels_are_one_float32_for_each_slot(levels: np.ndarray, monkeypatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as in production
    with pytest.raises(ValueError, match="one for each of 4 slots"):
        SamplePlan(shown=window(0, 4), levels=levels, supervision=None)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_the_plain_recipe_shows_clips_in_order(stride: int) -> None:
    recipe = PlainRecipe(8, stride, seed=3, flow=True)
    stage = recipe.group(0)
    assert (stage.stride, recipe.group(5)) == (stride, stage)
    starts = set()
    for position in range(60):
        facts = ClipFacts(frames=17, flow_pairs=PAIRS, first=20)
        plan = recipe.sample(position, replace(facts, first=0), stage)
        assert plan.levels is None
        shown, start = plan.shown, int(plan.shown.window[0])
        assert shown.src_index.tolist() == list(range(start, start + 8, stride))
        assert (shown.src_index == shown.straight).all()
        assert plan.supervision is not None
        assert {len(chain) for chain in plan.supervision.chains} == {1}
        starts.add(start)
        later = PlainRecipe(8, stride, seed=3).sample(position, facts, stage)
        assert later.shown.window[0] == 20 + start
        assert later.supervision is None
    assert starts == {0, 4, 8}


def test_a_window_of_a_longer_clip_begins_at_its_first_frame() -> None:
    for position in range(20):
        facts = ClipFacts(frames=8, flow_pairs=(), first=24)
        shown = TrainRecipe(CONFIG).sample(position, facts, STAGES[0]).shown
        assert shown.window[0] == 24
        assert sorted(shown.src_index) == list(range(24, 32))
