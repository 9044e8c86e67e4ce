"""What is committed is what its files hold; damage is told, and never what is recorded."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.building.commits import ShardFiles, look, shard_files
from pipeline.building.shard import committed_rows
from pipeline.records import Reject
from shards import DamagedDataset, Store, shard_tar, write_table
from shards.manifest import sha256_of
from shards.schema import CLIP_MEMBERS, CLIP_TABLE

REJECT = Reject(path="/a", sha256=None, stage="build", reason="unreadable", detail="frame 3")
STEM = "clips/000007"


@pytest.fixture
def files(tmp_path: Path) -> ShardFiles:
    """A shard of two clips, of which one could not be built."""
    store, rows = Store(tmp_path), pa.Table.from_pylist([{"key": "a"}, {"key": "b"}], CLIP_TABLE)
    with shard_tar(store, f"{STEM}.tar") as tar:
        spans = {1: tar.add("b", dict.fromkeys(CLIP_MEMBERS, b"x"))}
    write_table(store, f"{STEM}.parquet", committed_rows(rows, spans, [REJECT]))
    return ShardFiles(store=store, shard=7, stems=(STEM,))


def test_a_commit_is_what_the_files_hold(files: ShardFiles):
    assert files.is_done
    digest = sha256_of(files.store.read(f"{STEM}.parquet"))
    assert look([files]) == [(7, files.commit())]
    assert files.commit().digests == {STEM: digest}
    assert (files.commit().clips, files.commit().rejects) == (1, (REJECT,))


@pytest.mark.parametrize("harm", ["no tar", "no parquet", "another parquet"])
def test_damage_is_told(files: ShardFiles, harm: str):
    known = replace(files, recorded={STEM: files.commit().digests[STEM]})
    assert known.is_done
    if harm == "another parquet":
        files.store.write(f"{STEM}.parquet", files.store.read(f"{STEM}.parquet") + b"x")
    else:
        files.store.delete(f"{STEM}.{harm.removeprefix('no ')}")
    ((shard, problems),) = look([known])
    assert shard == 7
    assert isinstance(problems, list)
    (problem,) = problems
    assert problem.startswith(files.store.at(STEM))
    assert not known.is_done
    assert known.committed


def test_what_changes_while_the_job_runs_is_never_recorded(files: ShardFiles):
    known = replace(files, recorded={STEM: "0" * 64})
    with pytest.raises(DamagedDataset, match="has changed while the job was running"):
        known.commit()


def test_a_shard_knows_what_the_manifest_records_of_its_own_files(tmp_path: Path):
    recorded = {STEM: "0" * 64, "clips/000001": "1" * 64}
    files = shard_files(Store(tmp_path), 7, (STEM, "flow/x/000007"), recorded)
    assert files.recorded == {STEM: "0" * 64}
    assert files.committed, "it was, although its files are gone"
    assert not shard_files(Store(tmp_path), 7, ("flow/x/000007",), recorded).committed
