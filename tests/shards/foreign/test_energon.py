"""`.nv-meta` says what `energon prepare` would."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from shards.foreign.energon import write_database, write_meta
from shards.foreign.samples import Member, Sample
from shards.store import Store

SHARDS = [
    [
        Sample(key="a", members=(Member(part="flow", offset=512, size=700),)),
        Sample(key="b", members=(Member(part="flow", offset=2048, size=1),)),
    ],
    [Sample(key="c", members=(Member(part="flow", offset=512, size=512),))],
]


def rows(path: Path, query: str) -> list[tuple]:
    with closing(sqlite3.connect(path)) as database:
        return database.execute(query).fetchall()


def test_the_database_has_each_sample_and_each_part(tmp_path: Path):
    write_database(str(tmp_path / "index.sqlite"), SHARDS)
    assert rows(tmp_path / "index.sqlite", "SELECT * FROM samples") == [
        (0, "a", 0, 0, 1536),
        (0, "b", 1, 1536, 1024),
        (1, "c", 0, 0, 1024),
    ]
    assert rows(tmp_path / "index.sqlite", "SELECT * FROM sample_parts") == [
        (0, 0, "flow", 512, 700),
        (0, 1, "flow", 2048, 1),
        (1, 0, "flow", 512, 512),
    ]
    kept = "SELECT name FROM sqlite_master WHERE type = 'index' AND sql NOT NULL ORDER BY name"
    assert [name for (name,) in rows(tmp_path / "index.sqlite", kept)] == [
        "idx_sample_parts_full",
        "idx_sample_parts_seq",
        "idx_samples_by_tar_and_idx",
    ]


def test_the_folder_names_the_tars_and_changes_where_the_samples_do(tmp_path: Path):
    store, counts = Store(tmp_path), {"000000.tar": 2, "000001.tar": 1}
    names = write_meta(store, "flow", counts, SHARDS, "digest")
    assert sorted(names) == store.files("flow")
    first = {name: store.read(name) for name in names}
    assert json.loads(first["flow/.nv-meta/.info.json"]) == {"shard_counts": counts}
    split = json.loads(first["flow/.nv-meta/split.yaml"])
    assert split["split_parts"] == {"train": [*counts], "val": [], "test": []}
    write_meta(store, "flow", counts, SHARDS, "digest")
    assert {name: store.read(name) for name in names} == first
    write_meta(store, "flow", counts, SHARDS, "another")
    assert store.read("flow/.nv-meta/index.uuid") != first["flow/.nv-meta/index.uuid"]
