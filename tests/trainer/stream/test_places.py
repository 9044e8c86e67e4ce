"""Positions lead to samples by arithmetic: of which bucket, which source, which of its samples."""

import json
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.store import UsageError
from tests.trainer.stream.conftest import Index
from trainer.config import StreamConfig
from trainer.stream.places import Interleave, Places, Windows
from trainer.stream.samples import Opened, Samples
from trainer.stream.source import Source

CONFIG = StreamConfig(frames=4, window=2)


def places(*indices: Index, weights: tuple[float, ...] = (), **config) -> Places:
    weighted = zip(indices, weights or [1.0] * len(indices), strict=True)
    sources = [Source(dataset=index, weight=weight) for index, weight in weighted]
    return Places(sources, StreamConfig(**{"frames": 4, "window": 2, "batch": 4} | config), 3)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(0, 10**15))
@settings(max_examples=60, deadline=None)
def test_sequences_are_interleaved_evenly_and_each_place_is_found_at_once(
    weights: list[int], far: int
) -> None:
    interleave, total = Interleave(tuple(weights)), sum(weights)
    met: Counter[int] = Counter()
    for place in range(total):
        sequence, number = interleave.at(place)
        assert number == met[sequence], "each sequence goes on where it stood"
        met[sequence] += 1
        for one, weight in enumerate(weights):
            assert abs(met[one] - Fraction((place + 1) * weight, total)) < len(weights)
    assert [met[one] for one in range(len(weights))] == weights
    sequence, number = interleave.at(far)
    before, rest = divmod(far, total)
    assert (sequence, number - before * weights[sequence]) == interleave.at(rest)


def test_without_buckets_a_position_is_that_of_the_mixture() -> None:
    one = places(Index([5, 3]))
    assert [one.at(p)[1] for p in range(20)] == [*range(20)]
    assert one.order() == {"dataset": "clip[5, 3]", "where": "all", "seed": 3, "window": 2}
    assert not one.dropped


def test_what_decides_the_order_has_names() -> None:
    one, other = Index([2]), Index([3])
    sources = [Source(dataset=one, weight=2), Source(dataset=other, where="number > 0")]
    named = Places(sources, CONFIG, 3).order()
    assert named["where 2"] == "number > 0"
    assert named["weights"] == "2:1"
    assert {*Places([Source(dataset=one)] * 40, CONFIG, 3).order()} == {"sources", "seed"}
    buckets = places(Index([4], frames=[4, 8, 4, 8]), buckets=("2x2@8", "2x2x4")).order()
    assert (buckets["buckets"], buckets["batch"]) == ("2x2x8, 2x2x4; best", 4)
    many = tuple(f"2x2x{n}" for n in range(4, 60))
    assert len(json.dumps(places(Index([2]), buckets=many).order())) < 300


def test_buckets_have_their_share_of_the_batches_and_what_fills_none_is_counted() -> None:
    index = Index([6, 6], frames=[3, 4, 8, 9, 9, 9] * 2)
    found = places(index, buckets=("2x2x8", "2x2x4", "2x4x4"))
    assert [(one.bucket, one.samples, one.share) for one in found.fillings()] == [
        ("2x2x8", 8, 0.8),
        ("2x2x4", 2, 0.2),
    ]
    assert found.dropped == {"too short for every bucket": 2}
    batches = [{found.at(4 * batch + place)[0] for place in range(4)} for batch in range(50)]
    assert all(len(samples) == 1 for samples in batches)
    frames = Counter(samples.pop().bucket.frames for samples in batches)
    assert frames == {8: 40, 4: 10}
    with pytest.raises(UsageError, match=r"fills a bucket of 2x2x99: 12 are too short for every"):
        places(index, buckets=("2x2x99",))


def test_sources_are_mixed_in_each_bucket_by_weight_and_share() -> None:
    """Half of all is of either source, though they fill the buckets as 3:1 and as 1:3."""
    first = Index([4], frames=[8, 8, 8, 4], name="a")
    second = Index([8], frames=[4, 4, 4, 8] * 2, name="b", sizes=[(4, 4)] * 8)
    found = places(first, second, buckets=("2x2x8", "2x2x4"), batch=8)
    met = Counter(
        (samples.key(0)[0], samples.bucket.frames) for samples, _ in map(found.at, range(8_000))
    )
    assert {name: count / 8_000 for name, count in met.items()} == {
        ("a", 8): pytest.approx(3 / 8, abs=4e-3),
        ("b", 8): pytest.approx(1 / 8, abs=4e-3),
        ("a", 4): pytest.approx(1 / 8, abs=4e-3),
        ("b", 4): pytest.approx(3 / 8, abs=4e-3),
    }
    own = [own for samples, own in map(found.at, range(4000)) if samples is found.samples[0]]
    assert own == [*range(len(own))], "each in its own order"


def test_clips_of_several_sizes_are_shown_at_one() -> None:
    sizes = [(2, 2), (4, 8)]
    for config in ({"size": "2x2"}, {"buckets": ("2x2x4", "4x4x4")}):
        found = places(Index([2], sizes=sizes), **config)
        shown = {framing.stored: framing.size for s in found.samples for framing in s.framings}
        assert shown.keys() == {*sizes}
    with pytest.raises(UsageError, match=r"heights \[2, 4\]"):
        places(Index([2], sizes=sizes))
    with pytest.raises(UsageError, match=r"smaller than stream\.size 4x4"):
        places(Index([2], sizes=sizes), size="4x4")
    with pytest.raises(UsageError, match=r"heights \[2, 4\]"):
        places(Index([2], sizes=sizes), size="2x2", resize=False, rgb_on="device")
    with pytest.raises(UsageError, match=r"does not resize them"):
        places(Index([2], sizes=[(4, 8)] * 2), size="2x2", rgb_on="device")


def test_a_window_is_asked_for_once_and_the_next_one_ahead() -> None:
    opened = Opened(Source(dataset=Index([2] * 6)), CONFIG)
    samples, asked = Samples(opened, seed=3), []
    windows = Windows(samples, lambda load, shard: asked.append(shard))
    windows.ask_ahead()
    assert asked == []
    windows.ask(1)
    windows.ask(2)
    assert sorted(asked) == sorted(samples.order.window_at(0)[0])
    for _ in range(3):
        windows.ask_ahead()
    assert asked[2:] == samples.order.window_at(4)[0]
    windows.ask(11)
    assert sorted(asked) == [0, 1, 2, 3, 4, 5]
