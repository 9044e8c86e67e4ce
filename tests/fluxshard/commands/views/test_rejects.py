"""`fluxshard rejects`: what a dataset lacks, for people and as CSV."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.planning.clip_table import reject_table
from pipeline.records import Reject
from shards import Manifest, Store, write_manifest, write_table

Run = Callable[..., tuple[int, str, str]]


def reject(path: str, stage: str, reason: str) -> Reject:
    return Reject(path=path, sha256=None, stage=stage, reason=reason, detail=f'why, "{reason}"')


@pytest.fixture
def dataset(tmp_path: Path) -> str:
    """Not finished, so that nothing but its rejects can be read."""
    rows = [
        reject("/[bold]a.mp4", "probe", "not_video"),
        reject("/b.mp4", "scan", "missing"),
        reject("/c.mp4", "build", "shard_failed"),
        reject("/d.mp4", "probe", "not_video"),
    ]
    write_manifest(Store(tmp_path), Manifest(state="building", config={}))
    write_table(Store(tmp_path), "rejects.parquet", reject_table(rows))
    return str(tmp_path)


def test_csv_has_a_row_for_each_and_tells_what_is_tried_again(dataset: str, run: Run):
    code, out, err = run("rejects", dataset, "--csv")
    assert code == 0
    rows = list(csv.DictReader(out.splitlines()))
    assert [row["path"] for row in rows] == ["/[bold]a.mp4", "/b.mp4", "/c.mp4", "/d.mp4"]
    assert [row["retried"] for row in rows] == ["no", "yes", "yes", "no"]
    assert rows[0]["detail"] == 'why, "not_video"'
    assert err.splitlines() == ["not_video: 2", "missing: 1", "shard_failed: 1", "rejects: 4"]


def test_one_reason_can_be_asked_for(dataset: str, run: Run):
    code, out, err = run("rejects", dataset, "--csv", "--reason", "missing")
    assert code == 0
    assert len(out.splitlines()) == 2
    assert err.splitlines() == ["missing: 1", "rejects: 1"]
    code, out, err = run("rejects", dataset, "--reason", "mising")
    assert (code, out) == (2, "")
    assert "reasons are: missing, not_video, shard_failed" in err


def test_people_get_a_table(dataset: str, run: Run):
    code, out, _ = run("rejects", dataset)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["path", "stage", "reason", "detail", "retried"]
    assert "/[bold]a.mp4" in out


def test_a_dataset_that_refused_nothing_is_fine_and_a_folder_is_none(
    tmp_path: Path, dataset: str, run: Run
):
    Path(dataset, "rejects.parquet").unlink()
    assert run("rejects", dataset, "--csv")[::2] == (0, "rejects: 0\n")
    (tmp_path / "empty").mkdir()
    code, _, err = run("rejects", str(tmp_path / "empty"))
    assert code == 2
    assert "holds no dataset" in err
