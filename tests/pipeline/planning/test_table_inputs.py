"""A table of clips, edited again and again, as the inputs of a dataset that grows."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline.planning.config import ScanConfig
from pipeline.planning.plan_dataset import plan_anew
from pipeline.planning.scan import Scan
from pipeline.planning.table_inputs import TableInputs, check_unique, table_inputs
from pipeline.records import Reject
from pipeline.source.given_clips import OURS, GivenClips
from shards import UsageError
from shards.schema import CLIP_TABLE

CONFIG = ScanConfig(size=(32, 48), frames=2)


@pytest.fixture
def clips(scan_of: Callable[..., Scan], tmp_path: Path) -> pa.Table:
    """The clips of two files, 3 and 2, as a scan writes them."""
    rows = []
    for name, count in (("a", 3), ("b", 2)):
        scan = scan_of(name, count)
        assert not isinstance(scan, Reject)
        path = tmp_path / f"{name}.mp4"
        path.touch()
        rows += [replace(clip, path=str(path)).to_row(0) for clip in scan[1]]
    return pa.Table.from_pylist(rows, schema=CLIP_TABLE).select([field.name for field in OURS])


@pytest.fixture
def take(tmp_path: Path) -> Callable[[pa.Table], tuple[TableInputs, dict[str, str]]]:
    def save(table: pa.Table) -> tuple[TableInputs, dict[str, str]]:
        pq.write_table(table, tmp_path / "clips.parquet")
        return table_inputs(GivenClips(str(tmp_path / "clips.parquet")), CONFIG)

    return save


Take = Callable[[pa.Table], tuple[TableInputs, dict[str, str]]]


def keys(inputs: TableInputs, planned: list[pa.Table]) -> list[str]:
    return [key for t in inputs.besides(planned).clips() for key in t["key"].to_pylist()]


def test_all_rows_are_planned_in_their_order(clips: pa.Table, take: Take):
    inputs, absent = take(clips.take([4, 0, 2]))
    assert absent == {}
    assert {Path(path).name for path in inputs.videos} == {"a.mp4", "b.mp4"}
    assert keys(inputs, []) == ["b-1", "a-0", "a-2"]
    planned = pa.concat_tables(plan_anew(inputs, 2).tables)
    assert sorted(planned["key"].to_pylist()) == ["a-0", "a-2", "b-1"]
    assert planned.schema == CLIP_TABLE


def test_rows_that_come_later_are_new_also_of_a_video_that_is_planned(clips: pa.Table, take: Take):
    inputs, _ = take(clips)
    assert keys(inputs, [clips.take([0, 3])]) == ["a-1", "a-2", "b-1"]


def test_rows_that_changed_are_told_of_and_no_others(clips: pa.Table, take: Take):
    planned = clips.add_column(1, CLIP_TABLE.field("shard"), pa.array([0] * 5, pa.int32()))
    inputs, _ = take(clips.take([4, 3, 2, 1]))
    assert inputs.outdated([planned]) == frozenset()
    captions = pa.array(["" if key != "b-1" else "new" for key in clips["key"].to_pylist()])
    place = clips.column_names.index("caption")
    inputs, _ = take(clips.set_column(place, "caption", captions))
    (warning,) = inputs.outdated([planned])
    assert "b.mp4: rows of its clips have changed in" in warning
    inputs, _ = take(clips.append_column("score", pa.array([None, None, 1.5, None, None])))
    (warning,) = inputs.outdated([planned])
    assert "a.mp4: rows of its clips have changed in" in warning


def test_the_digest_is_that_of_the_table_and_of_what_is_missing(
    clips: pa.Table, take: Take, tmp_path: Path
):
    digests = {take(table)[0].digest for table in (clips, clips.slice(1), clips.take([1, 0]))}
    assert len(digests) == 3
    before = take(clips)[0].digest
    assert before in digests
    (tmp_path / "b.mp4").unlink()
    inputs, absent = take(clips)
    assert inputs.digest not in digests
    assert list(absent) == [str(tmp_path / "b.mp4")]
    ((reject),) = inputs.rejects
    assert (reject.stage, reject.reason) == ("scan", "missing")
    assert keys(inputs, []) == ["a-0", "a-1", "a-2"]
    (tmp_path / "b.mp4").touch()
    assert take(clips)[0].digest == before


def test_a_key_that_is_there_twice_is_named_with_its_rows(clips: pa.Table, take: Take):
    with pytest.raises(UsageError, match=r"rows 2 and 6: both have the key 'a-1'"):
        take(pa.concat_tables([clips, clips.slice(1, 1)]))


def test_equal_hashes_of_other_keys_are_no_harm(clips: pa.Table, take: Take):
    table = take(clips)[0].table
    hashes = pa.array(map(hash, clips["key"].to_pylist())).to_numpy()
    check_unique(table, hashes)
    check_unique(table, hashes[[0, 0, 1, 2, 3]])  # as if two keys had the hash of the first


def test_one_file_with_two_contents_is_refused(clips: pa.Table, take: Take):
    other = pc.replace_substring(clips["source_sha256"], "a", "c").combine_chunks()
    mixed = pa.concat_arrays([other.slice(0, 1), clips["source_sha256"].combine_chunks().slice(1)])
    place = clips.column_names.index("source_sha256")
    with pytest.raises(UsageError, match=r"lists .*a.mp4 with two contents"):
        take(clips.set_column(place, "source_sha256", mixed))


def test_an_empty_table_is_refused(clips: pa.Table, take: Take):
    with pytest.raises(UsageError, match="has no rows"):
        take(clips.slice(0, 0))
