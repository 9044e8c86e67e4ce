"""The clip at a position: its facts, who stands in, and which windows are read ahead."""

import pyarrow as pa
import pytest

from flow_cache.spec import level_pairs
from shards.manifest import DamagedDataset
from shards.store import UsageError
from tests.trainer.stream.conftest import Index
from trainer.config import StreamConfig
from trainer.stream.batch import Damage
from trainer.stream.samples import Opened, Samples
from trainer.stream.source import Source

CONFIG = StreamConfig(frames=4, window=2)


def samples_of(index: Index, config: StreamConfig = CONFIG, **source) -> Samples:
    return Samples(Opened(Source(dataset=index, **source), config), seed=3)


def test_a_position_leads_to_a_clip_that_the_filter_takes() -> None:
    index = Index([3, 0, 4], frames=[4, 5, 6, 7, 8, 9, 10])
    samples = samples_of(index, where="number > 1")
    found = [samples.find(position, position, {}) for position in range(5)]
    assert sorted(one.row for one in found) == [2, 3, 4, 5, 6]
    for one in found:
        assert samples.key(one.row) == f"clip-{one.row}"
        assert samples.caption(one.row, 0) == f"caption {one.row}"
        assert (one.facts.frames, one.facts.first) == (4 + one.row, 0)
        assert one.damaged is None


def test_stored_pairs_are_those_of_the_layer(made) -> None:
    layer = made.dataset.layer("variational")
    opened = Opened(Source(dataset=made.dataset, layer=layer), CONFIG)
    found = Samples(opened, seed=0).find(0, 0, {})
    assert found.facts.flow_pairs == level_pairs(9, (1, 2, 4), made.spec.directions)


def test_the_next_undamaged_clip_of_the_window_stands_in() -> None:
    samples = samples_of(Index([3, 3]))
    order = [samples.find(p, p, {}).number for p in range(6)]
    bad = {number: Damage(key=f"k{number}", reason="gone") for number in order[1:3]}
    found = samples.find(101, 1, bad)
    assert (found.number, found.damaged) == (order[3], bad[order[1]])
    samples.bad = bad
    assert samples.find(101, 5, {order[5]: Damage(key="k", reason="r")}).number == order[0]
    samples.bad = {number: Damage(key=f"k{number}", reason="gone") for number in order}
    with pytest.raises(DamagedDataset, match=f"every clip of memory .* as k{order[4]}: gone"):
        samples.find(4, 4, {})


def test_what_the_index_says_against_the_manifest_is_noticed() -> None:
    index = Index([2], frames=[4, 3])
    index.manifest.config = {"size": [2, 2], "frames": 4}
    samples = samples_of(index)
    with pytest.raises(UsageError, match=r"has 3 frames, stream\.frames asks for 4"):
        [samples.find(position, position, {}) for position in range(2)]
    with pytest.raises(UsageError, match=r"heights \[2, 8\]"):
        samples.check_size((8, 2))


def test_captions_come_from_the_column_that_is_named() -> None:
    index = Index([2, 1])
    index.table = index.table.append_column("captions", pa.array([["a", "b"], None, ["c"]]))
    samples = samples_of(index, StreamConfig(frames=4, captions="captions"))
    assert {samples.caption(0, position) for position in range(20)} == {"a", "b"}
    assert (samples.caption(1, 0), samples.caption(2, 0)) == (None, "c")
    with pytest.raises(UsageError, match="has no column texts"):
        samples_of(index, StreamConfig(frames=4, captions="texts"))


def test_a_shard_without_the_column_of_captions_has_none() -> None:
    class Uneven(Index):
        def rows(self, shard, columns=None, layer=None) -> pa.Table:
            table = super().rows(shard, columns, layer)
            kept = [n for n in table.column_names if shard == "000001" or n != "captions"]
            return table.select(kept)

    index = Uneven([1, 1])
    index.table = index.table.append_column("captions", pa.array(["", '["a"]']))
    samples = samples_of(index, StreamConfig(frames=4, captions="captions"))
    assert [samples.caption(row, 0) for row in range(2)] == [None, "a"]


def test_columns_that_the_source_asks_for_come_with_each_clip() -> None:
    index = Index([3, 3])
    samples = samples_of(index, columns=("number",))
    assert [samples.value(row, "number") for row in range(6)] == [0, 1, 2, 3, 4, 5]
    assert samples.value(2, "other") is None  # as where a shard lacks what another has


def test_a_column_that_no_shard_has_is_refused(made) -> None:
    with pytest.raises(UsageError, match=r"no column kind"):
        Opened(Source(dataset=made.dataset, columns=("kind",)), CONFIG)
