from itertools import pairwise
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flow_cache import FlowField, Pair, level_pairs
from flow_cache.algebra import length
from flow_cache.lookup import flow_between, hops, reverse
from fluxshard.demo.scenes import Scene, random_scene


def exact_fields(scene: Scene, frames: int, levels: tuple[int, ...]) -> dict[Pair, FlowField]:
    return {pair: exact_field(scene, pair) for pair in level_pairs(frames, levels)}


def exact_field(scene: Scene, pair: Pair) -> FlowField:
    flow, visible = scene.flow(*pair), scene.visible(*pair)
    return FlowField(flow=torch.from_numpy(flow)[None], visible=torch.from_numpy(visible)[None])


@pytest.mark.parametrize(
    ("i", "j", "way"),
    [
        (5, 5, []),
        (0, 1, [(0, 1)]),
        (0, 7, [(0, 4), (4, 6), (6, 7)]),  # 0-4-8-7 has as many hops but passes over more frames
        (7, 0, [(7, 6), (6, 4), (4, 0)]),
        (3, 5, [(3, 4), (4, 5)]),
        (1, 16, [(1, 2), (2, 4), (4, 8), (8, 12), (12, 16)]),  # 1-0-4-8-12-16 passes over more
    ],
)
def test_takes_the_fewest_hops_through_three_levels(i: int, j: int, way: list[Pair]) -> None:
    assert hops(i, j, level_pairs(17, (1, 2, 4))) == way


@given(i=st.integers(0, 32), j=st.integers(0, 32), order=st.randoms())
def test_the_way_is_a_chain_and_does_not_depend_on_storage_order(
    i: int, j: int, order: Random
) -> None:
    stored = list(level_pairs(33, (1, 2, 4)))
    way = hops(i, j, stored)
    assert all(a[1] == b[0] for a, b in pairwise(way))
    assert set(way) <= set(stored)
    if way:
        assert (way[0][0], way[-1][1]) == (i, j)
    # No way with levels 1, 2 and 4 needs more than two hops at each end besides the long ones.
    assert len(way) <= abs(i - j) // 4 + 4
    shuffled = stored.copy()
    order.shuffle(shuffled)
    assert hops(i, j, shuffled) == way


def test_forward_pairs_alone_do_not_lead_back() -> None:
    with pytest.raises(ValueError, match="no chain of stored pairs leads from frame 3 to frame 1"):
        hops(3, 1, level_pairs(5, (1, 2), ("forward",)))
    with pytest.raises(ValueError, match="to frame 9"):
        hops(0, 9, level_pairs(5, (1,)))


def test_any_pair_of_a_scene_is_answered_within_a_fraction_of_a_pixel() -> None:
    scene = random_scene(3, (64, 96), spin=0.01)
    fields = exact_fields(scene, 9, (1, 2, 4))
    for pair in ((0, 7), (7, 1), (3, 5), (2, 0)):
        found, exact = flow_between(*pair, fields), exact_field(scene, pair)
        agreed = found.visible & exact.visible
        error = length(found.flow - exact.flow)[agreed]
        # Layers move smoothly; chains that land between two layers are marked invisible.
        assert error.quantile(0.99) <= 1e-3
        assert error.mean() <= 0.01
        # Where the chain sees a pixel all the way, it is nearly always right to.
        assert (found.visible & ~exact.visible).float().mean() <= 0.02
        assert agreed.float().mean() >= 0.6


def test_a_frame_to_itself_is_no_motion() -> None:
    fields = exact_fields(random_scene(0, (24, 32)), 2, (1,))
    field = flow_between(1, 1, fields)
    assert len(field) == 1
    assert field.visible.all()
    assert not field.flow.any()


def test_a_stored_pair_is_answered_as_it_is() -> None:
    fields = exact_fields(random_scene(0, (24, 32)), 5, (1, 4))
    assert flow_between(4, 0, fields) is fields[4, 0]


def test_without_fields_there_is_no_answer() -> None:
    with pytest.raises(ValueError, match="no stored fields"):
        flow_between(0, 0, {})


def test_reversed_fields_are_those_of_the_clip_played_backwards() -> None:
    scene = random_scene(5, (24, 32))
    fields = reverse(exact_fields(scene, 4, (1,)), 4)
    assert torch.equal(fields[0, 1].flow, exact_field(scene, (3, 2)).flow)
    assert set(fields) == set(level_pairs(4, (1,)))
