from itertools import pairwise

import jaxtyping
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_cache.spec import level_pairs
from trainer.temporal.plan import TemporalPlan, reorder, subsample, supervise, window

STORED = level_pairs(17, (1, 2, 4))


@st.composite
def shuffled_plans(draw: st.DrawFn) -> TemporalPlan:
    stage = draw(st.sampled_from([1, 2, 3]))
    plan = subsample(window(0, 16), 2 ** (stage - 1), stage)
    return reorder(plan, np.array(draw(st.permutations(range(len(plan)))), dtype=np.int64))


def test_stage_then_shuffle_shows_the_frames_of_the_stage() -> None:
    plan = reorder(subsample(window(4, 8), 2, 2), np.array([0, 3, 2, 1]))
    assert plan.src_index.tolist() == [4, 10, 8, 6]
    assert plan.straight.tolist() == [4, 6, 8, 10]
    assert (plan.stride, plan.stage, plan.moved) == (2, 2, 0.5)


def test_shuffle_before_the_stage_may_show_other_frames() -> None:
    plan = subsample(reorder(window(0, 4), np.array([0, 1, 3, 2])), 2, 2)
    assert plan.src_index.tolist() == [0, 3]
    assert plan.moved == 0.5


def test_a_slot_shows_what_the_shuffle_names() -> None:
    """And not the other way round: a cycle of three is not its own inverse."""
    shuffle = np.array([0, 3, 1, 2, 4])
    assert reorder(window(4, 5), shuffle).src_index.tolist() == [4, 7, 5, 6, 8]


@given(shuffled_plans())
def test_restoring_runs_forward_and_loses_no_frame(plan: TemporalPlan) -> None:
    assert plan.src_index[plan.restore].tolist() == plan.straight.tolist()


@given(shuffled_plans())
def test_restored_pairs_are_those_of_the_unshuffled_clip(plan: TemporalPlan) -> None:
    straight = subsample(window(0, 16), plan.stride, plan.stage)
    shuffled, plain = (supervise(p, STORED, "restored", 8) for p in (plan, straight))
    assert shuffled.chains == plain.chains
    assert all(len(chain) == 1 for chain in plain.chains)
    frames = plan.src_index[shuffled.slots]
    assert frames.tolist() == [list(chain[0]) for chain in shuffled.chains]


@given(shuffled_plans(), st.integers(1, 8))
def test_composed_chains_lead_from_slot_to_next_slot(plan: TemporalPlan, max_hops: int) -> None:
    supervision = supervise(plan, STORED, "composed", max_hops)
    assert supervision.slots.tolist() == [[i, i + 1] for i in range(len(plan) - 1)]
    for (first, second), chain in zip(
        plan.src_index[supervision.slots].tolist(), supervision.chains, strict=True
    ):
        assert len(chain) <= max_hops
        if chain:
            assert (chain[0][0], chain[-1][1]) == (first, second)
            assert all(a[1] == b[0] for a, b in pairwise(chain))
            assert set(chain) <= set(supervision.fields) <= set(STORED)


def test_neighbours_keeps_only_pairs_that_were_neighbours() -> None:
    plan = reorder(window(0, 6), np.array([0, 1, 4, 3, 2, 5]))
    supervision = supervise(plan, STORED, "neighbours", 8)
    #                            0-1        1-4  4-3        3-2        2-5
    assert supervision.chains == (((0, 1),), (), ((4, 3),), ((3, 2),), ())


def test_neighbours_of_a_stage_are_its_stride_apart() -> None:
    plan = subsample(window(0, 8), 2, 2)
    assert supervise(plan, [(0, 2), (2, 4), (4, 6)], "neighbours", 8).chains == (
        ((0, 2),),
        ((2, 4),),
        ((4, 6),),
    )


def test_a_chain_longer_than_allowed_is_left_out() -> None:
    adjacent_only = level_pairs(17, (1,))
    plan = subsample(window(0, 16), 4, 3)
    assert all(len(c) == 4 for c in supervise(plan, adjacent_only, "restored", 4).chains)
    assert all(c == () for c in supervise(plan, adjacent_only, "restored", 3).chains)


@pytest.mark.parametrize(
    "index", [np.array([0, 0]), np.array([-1, 0]), np.array([0.0]), np.array([[0]])]
)
def test_a_plan_of_impossible_frames_is_refused(index: np.ndarray, monkeypatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as in production
    with pytest.raises(ValueError, match="src_index"):
        TemporalPlan(src_index=index, window=index)
