"""Clips are spread over shards: each has its place, whatever the tables they come in."""

import pickle
from collections import Counter
from itertools import count

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.planning import clip_plan
from pipeline.planning.clip_plan import agrees, blocks, by_shard, groups_of, regroup
from shards.schema import CLIP_TABLE

VIDEOS = st.lists(st.tuples(st.integers(1, 30), st.booleans()), max_size=12)


def clips_of_videos(videos: list[tuple[int, bool]]) -> pa.Table:
    """Clips of videos, each of so many and seekable or not."""
    rows = [
        {"key": f"{video}-{clip}", "source_sha256": str(video), "seekable": seekable}
        for video, (clips, seekable) in enumerate(videos)
        for clip in range(clips)
    ]
    return pa.Table.from_pylist(rows, CLIP_TABLE).drop_columns("shard")


@given(VIDEOS, st.integers(1, 9), st.integers(1, 17), st.integers(0, 5))
def test_every_clip_has_one_place_and_all_shards_but_the_last_are_full(
    videos: list[tuple[int, bool]], per_shard: int, cut: int, first: int
):
    clips = clips_of_videos(videos)
    pieces = [clips.slice(start, cut) for start in range(0, len(clips), cut)]
    tables = list(blocks(iter(pieces), per_shard, count(first)))
    planned = pa.concat_tables([CLIP_TABLE.empty_table(), *tables])
    assert sorted(planned["key"].to_pylist()) == sorted(clips["key"].to_pylist())
    shards = planned["shard"].to_pylist()
    assert shards == sorted(shards)
    sizes = list(Counter(shards).values())
    assert all(size == per_shard for size in sizes[:-1])
    assert [shard for table in tables for shard, _ in by_shard(table)] == sorted(set(shards))
    assert not shards or shards[0] == first
    assert tables == list(blocks([clips] if len(clips) else [], per_shard, count(first)))


@given(VIDEOS, st.integers(1, 9))
def test_clips_of_a_video_stand_together_and_in_order_in_a_shard(
    videos: list[tuple[int, bool]], per_shard: int
):
    for table in blocks([clips_of_videos(videos)], per_shard, count()):
        for _, rows in by_shard(table):
            places = [tuple(map(int, key.split("-"))) for key in rows["key"].to_pylist()]
            assert places == sorted(places)


def test_clips_of_one_video_are_spread_unless_it_cannot_be_sought():
    """64 videos of 32 clips, of which every eighth cannot be sought, 64 clips in a shard."""
    videos = [(32, number % 8 != 0) for number in range(64)]
    (table,) = blocks([clips_of_videos(videos)], 64, count())
    shards_of: dict[int, Counter] = {}
    for key, shard in zip(table["key"].to_pylist(), table["shard"].to_pylist(), strict=True):
        shards_of.setdefault(int(key.split("-")[0]), Counter())[shard] += 1
    most = [max(shards_of[video].values()) for video in range(64)]
    assert np.mean([n for video, n in enumerate(most) if video % 8]) < 12  # of 32
    assert all(len(shards_of[video]) <= 2 for video in range(0, 64, 8))


def test_runs_end_with_their_video_and_after_so_many_clips():
    groups = groups_of(clips_of_videos([(5, True), (7, False), (1, True)]), 6)
    assert groups.tolist() == [0] * 4 + [1] + [2] * 6 + [3] + [4]


def test_blocks_are_laid_out_each_by_itself(monkeypatch: pytest.MonkeyPatch):
    """What comes later moves nothing in the blocks before."""
    monkeypatch.setattr(clip_plan, "BLOCK_CLIPS", 16)
    fewer = clips_of_videos([(10, True)] * 7)
    more = clips_of_videos([(10, True)] * 9)
    first, second = (list(blocks([clips], 4, count())) for clips in (fewer, more))
    assert len(first) == 5
    assert second[:4] == first[:4]


def test_the_rows_of_a_shard_travel_alone():
    (table,) = blocks([clips_of_videos([(30, True)] * 100)], 30, count())
    whole = len(pickle.dumps(table))
    assert all(len(pickle.dumps(rows)) < whole / 20 for _, rows in by_shard(table))


@given(st.lists(st.integers(0, 7), max_size=9), st.integers(1, 5))
def test_tables_are_cut_anew(sizes: list[int], rows: int):
    numbers = iter(range(sum(sizes)))
    tables = [
        pa.table({"n": pa.array([next(numbers) for _ in range(size)], pa.int64())})
        for size in sizes
    ]
    cut = list(regroup(tables, rows))
    assert [n for table in cut for n in table["n"].to_pylist()] == list(range(sum(sizes)))
    assert all(len(table) == rows for table in cut[:-1])
    assert all(0 < len(table) <= rows for table in cut)


def test_a_stored_shard_agrees_but_for_clips_that_could_not_be_built():
    (planned,) = blocks([clips_of_videos([(3, True)])], 3, count())
    assert agrees(planned, planned)
    assert agrees(planned, planned.take(pa.array([0, 2])))
    assert not agrees(planned.slice(0, 2), planned)
    caption = planned.schema.get_field_index("caption")
    other = planned.set_column(caption, "caption", pa.array(["new"] * 3))
    assert not agrees(other, planned)
    assert not agrees(planned.append_column("label", pa.array([1, 2, 3])), planned)
    assert not agrees(planned, planned.append_column("label", pa.array([1, 2, 3])))
    kinds = [planned.append_column("n", pa.array([1, 2, 3], kind)) for kind in ("int64", "double")]
    assert not agrees(*kinds)
