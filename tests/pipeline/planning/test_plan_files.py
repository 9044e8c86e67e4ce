"""The files of a plan: named by content, replaced by naming others, mended only with the same."""

from itertools import count
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.planning.clip_plan import blocks
from pipeline.planning.plan_files import (
    Plan,
    damaged_tables,
    mend_plan,
    plan_files,
    read_files,
    settled_files,
    write_plan,
)
from shards import DamagedDataset, Manifest, Store, read_manifest
from shards.schema import CLIP_TABLE

EMPTY = Manifest(state="building", config={})


def tables(clips: int, first: int = 0) -> list[pa.Table]:
    """Shards of two clips."""
    rows = [{"key": f"{n}", "source_sha256": f"{n}", "seekable": True} for n in range(clips)]
    clip = pa.Table.from_pylist(rows, CLIP_TABLE).drop_columns("shard")
    return [
        t
        for start in range(0, clips, 4)
        for t in blocks([clip.slice(start, 4)], 2, count(first + start // 2))
    ]


def plan(made: list[pa.Table], settled: dict[str, str] | None = None, first: int = 0) -> Plan:
    return Plan(settled=settled or {}, tables=made, first=first, rejects=[])


def test_a_plan_is_read_back_file_by_file(tmp_path: Path):
    store = Store(tmp_path)
    manifest = write_plan(store, EMPTY, plan(tables(7)), "inputs")
    assert read_manifest(store) == manifest
    assert manifest.inputs == "inputs"
    assert list(read_files(store, plan_files(manifest))) == tables(7)
    assert settled_files(manifest) == {}
    keys = read_files(store, plan_files(manifest), ["key"])
    assert [table.column_names for table in keys] == [["key"], ["key"]]


def test_a_new_plan_takes_the_place_of_the_old_and_settled_files_stay(tmp_path: Path):
    store = Store(tmp_path)
    first = write_plan(store, EMPTY, plan(tables(4)), "one")
    settled = plan_files(first)
    second = write_plan(store, first, plan(tables(8, first=2), settled, first=2), "two")
    third = write_plan(store, second, plan(tables(4, first=2), settled, first=2), "three")
    assert {*store.files("plan")} == {*plan_files(third)}
    assert len(plan_files(third)) == 2
    assert settled.items() < plan_files(third).items()


def test_what_is_not_planned_any_more_leaves_no_file(tmp_path: Path):
    store = Store(tmp_path)
    for name in (
        "clips/000007.tar",
        "flow/x/000004.parquet",
        "flow/x/000003.tar",
        "flow/x/000000.tar",
    ):
        store.write(name, b"x")
    write_plan(store, EMPTY, plan(tables(4, first=2), first=2), "inputs")
    assert store.files("clips") == []
    assert store.files("flow") == ["flow/x/000000.tar"]


def test_a_damaged_file_is_written_again_only_as_it_was(tmp_path: Path):
    store = Store(tmp_path)
    manifest = write_plan(store, EMPTY, plan(tables(7)), "inputs")
    for harm in (Path.unlink, lambda path: path.write_bytes(b"PAR1")):
        name = max(plan_files(manifest))
        harm(tmp_path / name)
        assert damaged_tables(store, manifest.tables) == [name]
        for other in (tables(4), tables(6), tables(8), []):
            with pytest.raises(DamagedDataset, match="planning again gives other clips"):
                mend_plan(store, manifest, plan(other))
            assert damaged_tables(store, manifest.tables) == [name]
        mend_plan(store, manifest, plan(tables(7)))
        assert damaged_tables(store, manifest.tables) == []
