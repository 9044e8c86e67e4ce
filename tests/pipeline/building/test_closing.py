"""The end of a build; whole builds are tested in `test_make_dataset`."""

from pathlib import Path

import pytest

from pipeline.building.closing import close_manifest, planned_rejects, stored_shard, write_rejects
from pipeline.building.commits import Commit
from pipeline.records import Reject
from shards import DamagedDataset, Manifest, Store, read_manifest

BUILDING = Manifest(state="building", config={})


def reject(stage: str) -> Reject:
    return Reject(path=f"/{stage}.mp4", sha256=None, stage=stage, reason="r", detail="d")


def test_rejects_of_shards_are_not_planned_ones(tmp_path: Path):
    store = Store(tmp_path)
    write_rejects(store, [reject("probe"), reject("build")])
    assert planned_rejects(store) == [reject("probe")]


def test_a_closed_manifest_has_its_shards_in_order_and_its_rejects(tmp_path: Path):
    store = Store(tmp_path)
    digests = {"flow/x/000000": "f", "clips/000000": "c"}
    commits = {n: Commit(digests=digests, clips=n + 1, rejects=()) for n in (1, 0)}
    assert stored_shard(commits[1]).sha256 == "c"
    made = close_manifest(store, commits, [], [reject("build")], BUILDING)
    assert read_manifest(store) == made
    closed = read_manifest(store)
    assert (closed.state, [*closed.shards]) == ("complete", ["000000", "000001"])
    assert close_manifest(store, commits, [], [reject("probe")], closed) == made
    assert read_manifest(store) == closed, "what is recorded stays"


def test_rejects_that_are_damaged_and_others_now_are_refused(tmp_path: Path):
    store = Store(tmp_path)
    close_manifest(store, {}, [], [reject("build")], BUILDING)
    store.write("rejects.parquet", b"damage")
    with pytest.raises(DamagedDataset, match=r"rejects.parquet is not what the manifest records"):
        close_manifest(store, {}, [], [reject("probe")], read_manifest(store))
