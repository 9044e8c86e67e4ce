"""The order is a permutation in each epoch, and a function of nothing but seed and position."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.order import (
    Cursor,
    Mixture,
    Order,
    chance,
    fold,
    permutation,
    rank_rows,
    whole_weights,
)
from shards.store import UsageError

shard_rows = st.lists(st.integers(0, 7), min_size=1, max_size=9).filter(any).map(tuple)


@given(shard_rows, st.integers(0, 2**32), st.integers(1, 4), st.integers(0, 3))
def test_every_epoch_is_a_permutation(rows: tuple[int, ...], seed: int, window: int, epoch: int):
    order = Order(shard_rows=rows, seed=seed, window=window)
    span = order.rows(epoch * order.total, (epoch + 1) * order.total)
    assert sorted(span) == list(range(sum(rows)))


@given(shard_rows, st.data())
def test_any_cut_of_the_stream_gives_the_same_rows(rows: tuple[int, ...], data: st.DataObject):
    order = Order(shard_rows=rows, seed=3, window=2)
    stop = data.draw(st.integers(0, 3 * order.total))
    cuts = sorted(data.draw(st.lists(st.integers(0, stop), max_size=4)))
    pieces = [order.rows(a, b) for a, b in zip([0, *cuts], [*cuts, stop], strict=True)]
    np.testing.assert_array_equal(np.concatenate(pieces), order.rows(0, stop))


@given(st.sampled_from([1, 2, 3, 4, 6, 12]))
def test_global_batches_do_not_depend_on_the_number_of_ranks(ranks: int):
    rows = Order(shard_rows=(5, 9, 3), seed=1).rows(12, 24)
    shares = [rank_rows(rows, rank, ranks) for rank in range(ranks)]
    np.testing.assert_array_equal(np.stack(shares, axis=1).ravel(), rows)


def test_a_window_keeps_its_shards_together():
    order = Order(shard_rows=(10,) * 6, seed=0, window=2)
    shards = order.rows(0, 60) // 10
    assert [len(set(shards[i : i + 20])) for i in (0, 20, 40)] == [2, 2, 2]


def test_epochs_and_seeds_differ():
    first = Order(shard_rows=(20, 20), seed=1)
    second = Order(shard_rows=(20, 20), seed=2)
    assert (first.rows(0, 40) != first.rows(40, 80)).any()
    assert (first.rows(0, 40) != second.rows(0, 40)).any()


def test_the_order_is_pinned():
    """A resumed run relies on these numbers for ever."""
    assert fold(7, "noise") == 13810320351754213724
    assert permutation(8, 1).tolist() == [4, 3, 7, 0, 1, 5, 6, 2]
    assert Order(shard_rows=(3, 4, 2), seed=5, window=2).rows(0, 9).tolist() == [
        7,
        8,
        1,
        0,
        2,
        6,
        3,
        4,
        5,
    ]


def test_an_uneven_split_and_an_empty_stream_are_refused():
    with pytest.raises(ValueError, match="multiple of the number of ranks"):
        rank_rows(np.arange(5), 0, 2)
    with pytest.raises(UsageError, match="rank 2 of a world of 2: ranks count from 0 to 1"):
        rank_rows(np.arange(4), 2, 2)
    with pytest.raises(ValueError, match="no rows"):
        Order(shard_rows=(0, 0), seed=1)


def test_a_cursor_resumes_only_where_it_was_made():
    cursor = Cursor(order={"dataset": "abc", "where": "all", "seed": 1}, position=40)
    assert cursor.resume_in({"seed": 1, "dataset": "abc", "where": "all"}) is cursor
    with pytest.raises(UsageError, match="dataset was abc, this run has def"):
        cursor.resume_in({**cursor.order, "dataset": "def"})
    with pytest.raises(UsageError, match="where was all, this run has x > 1; seed was 1, this run"):
        cursor.resume_in({**cursor.order, "where": "x > 1", "seed": 2})
    with pytest.raises(UsageError, match="window was unset, this run has 4"):
        cursor.resume_in({**cursor.order, "window": 4})


@given(shard_rows, st.integers(1, 4), st.integers(0, 40))
def test_a_window_is_told_with_its_end(rows: tuple[int, ...], window: int, position: int):
    order = Order(shard_rows=rows, seed=5, window=window)
    shards, end = order.window_at(position)
    assert position < end
    assert len(shards) <= window
    shard_of = np.repeat(np.arange(len(rows)), rows)
    assert {*shard_of[order.rows(position, end)]} <= {*shards}
    assert end % sum(rows) == 0 or not {*order.window_at(end)[0]} & {*shards}


def test_the_order_over_epochs_is_pinned():
    rows = Order(shard_rows=(3, 4, 2, 5), seed=7, window=2).rows(9, 23)
    assert rows.tolist() == [4, 6, 1, 3, 2, 2, 1, 7, 8, 0, 11, 6, 12, 13]


@given(shard_rows, st.integers(1, 4), st.integers(0, 40))
def test_the_candidates_of_a_position_are_its_window_from_there_on(
    rows: tuple[int, ...], window: int, position: int
):
    order = Order(shard_rows=rows, seed=5, window=window)
    _, end = order.window_at(position)
    begin = position
    while begin and order.window_at(begin - 1)[1] == end:
        begin -= 1
    there = order.rows(begin, end).tolist()
    place = position - begin
    found = list(order.candidates(position))
    assert found[: len(there)] == there[place:] + there[:place]
    epoch = position // order.total
    assert found[len(there) :] == order.rows(end, (epoch + 2) * order.total).tolist()
    assert {*found} == {*range(order.total)}


weights = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@given(weights, st.integers(0, 2**32), st.integers(0, 60))
def test_a_mixture_takes_each_stream_in_turn_by_weight(given: list[int], seed: int, stop: int):
    mixture = Mixture(weights=whole_weights(given), seed=seed)
    taken = [mixture.at(position) for position in range(stop)]
    for stream, weight in enumerate(mixture.weights):
        own = [position for found, position in taken if found == stream]
        assert own == list(range(len(own))), "one after the other, none left out"
        assert abs(len(own) - stop * weight / sum(mixture.weights)) < 2
    whole = stop // sum(mixture.weights) * sum(mixture.weights)
    counts = [sum(found == stream for found, _ in taken[:whole]) for stream in range(len(given))]
    assert counts == [whole // sum(mixture.weights) * weight for weight in mixture.weights]


def test_a_mixture_gives_each_rank_of_all_streams():
    mixture = Mixture(weights=(1, 1), seed=3)
    first_rank = [mixture.at(position)[0] for position in range(0, 400, 2)]
    assert 70 < sum(first_rank) < 130
    assert Mixture(weights=(1,), seed=3).at(17) == (0, 17)
    assert [mixture.at(position)[0] for position in range(8)] == [1, 0, 0, 1, 0, 1, 0, 1]


def test_weights_are_ratios_of_small_whole_numbers():
    assert whole_weights([0.7, 0.3]) == (7, 3)
    assert whole_weights([2, 4, 6]) == (1, 2, 3)
    assert whole_weights([1]) == (1,)
    with pytest.raises(UsageError, match="above 0"):
        whole_weights([1, 0])
    with pytest.raises(UsageError, match=r"in 123457 samples only.*round them"):
        whole_weights([0.123456, 0.000001])


def test_a_state_comes_back_from_json_or_says_why_not():
    cursor = Cursor(order={"dataset": "abc", "seed": 1}, position=40, skips=2).skip([7, 9])
    state = json.loads(json.dumps(cursor.to_json()))
    assert Cursor.from_json(state) == cursor
    assert (cursor.skipped, cursor.skips) == ((7, 9), 4)
    assert len(cursor.skip(list(range(100))).skipped) == 64
    with pytest.raises(UsageError, match="version 7, this one reads 1"):
        Cursor.from_json({**state, "version": 7})
    with pytest.raises(UsageError, match="'position'"):
        Cursor.from_json({"version": 1, "order": {}})
    with pytest.raises(UsageError, match="not the state of a stream"):
        Cursor.from_json({"step": 1})


@pytest.mark.parametrize(
    "odd",
    [
        {"position": "x"},
        {"position": float("nan")},
        {"position": float("inf")},
        {"position": -1},
        {"order": "ab"},
        {"order": 5},
        {"skipped": "no"},
        {"skips": None},
    ],
    ids=str,
)
def test_a_state_with_an_odd_value_is_refused(odd: dict[str, Any]):
    state = Cursor(order={"dataset": "abc"}, position=40).to_json()
    with pytest.raises(UsageError, match="not the state of a stream"):
        Cursor.from_json({**state, **odd})


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_keys_is_drawn_and_all_or_none_at_its_ends(share: float) -> None:
    drawn = [chance(share, 7, position, "text") for position in range(2000)]
    # Five standard deviations of a share, none of none or all.
    assert abs(np.mean(drawn) - share) <= 5 * (share * (1 - share) / 2000) ** 0.5
    assert drawn == [chance(share, 7, position, "text") for position in range(2000)]
