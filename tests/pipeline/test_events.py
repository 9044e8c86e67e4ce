"""What happens to videos and machines while a build runs leaves no trace in the dataset."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from distributed import Client

from pipeline.building.job import Outcome
from pipeline.building.make_dataset import make_dataset
from pipeline.planning import scan_all
from pipeline.planning.config import BuildConfig
from pipeline.planning.plan_files import plan_files
from pipeline.planning.scans import Scans
from pipeline.source.inputs import find_sources
from shards import Store, UsageError, read_manifest, verify, write_manifest
from tests.clusters import in_this_process

CONFIG = BuildConfig(size=(48, 64), frames=5, shots="none", flow="none", clips_per_shard=2)
NAMES = ("a.mp4", "b.mp4", "c.mp4")


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with in_this_process() as client:
        yield client


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_all, "PAUSES_S", (0.0,))


@pytest.fixture
def videos(
    tmp_path: Path,
    write_video: Callable[..., str],
    moving_pictures: Callable[..., list[np.ndarray]],
) -> Path:
    """A folder of three videos of three clips, and their names in a list."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for seed, name in enumerate(NAMES):
        shutil.copy(write_video(f"event_{name}", moving_pictures(15, 64, 80, seed)), folder / name)
    (folder / "list.csv").write_text("\n".join(["video", *NAMES]))
    return folder


def build(videos: Path, url: Path, client: Client, *, allow_failed: bool = False) -> Outcome:
    sources, missing = find_sources([str(videos / "list.csv")])
    store, progress = Store(url), lambda *_: None
    return make_dataset(
        sources, missing, store, CONFIG, client, progress, allow_failed=allow_failed
    )


def contents(url: Path) -> dict[str, bytes]:
    return {str(p.relative_to(url)): p.read_bytes() for p in url.rglob("*") if p.is_file()}


def test_a_video_that_is_missing_for_a_while_is_no_loss(
    videos: Path, tmp_path: Path, client: Client
):
    assert build(videos, tmp_path / "undisturbed", client).exit_code(strict=True) == 0
    url, away = tmp_path / "dataset", tmp_path / "away.mp4"
    (videos / "b.mp4").rename(away)
    outcome = build(videos, url, client)
    assert outcome.exit_code(strict=False) == 1
    assert list(outcome.unscanned) == [str(videos / "b.mp4")]
    assert (outcome.built, outcome.clips) == (0, 0)
    assert read_manifest(Store(url)).inputs is None
    away.rename(videos / "b.mp4")
    assert build(videos, url, client).exit_code(strict=True) == 0
    assert contents(url) == contents(tmp_path / "undisturbed")


def test_a_dataset_can_be_built_without_it_and_takes_it_in_later(
    videos: Path, tmp_path: Path, client: Client
):
    url, away = tmp_path / "dataset", tmp_path / "away.mp4"
    (videos / "b.mp4").rename(away)
    for _ in range(2):
        outcome = build(videos, url, client, allow_failed=True)
        assert (outcome.clips, outcome.exit_code(strict=False)) == (6, 1)
        assert [(Path(r.path).name, r.reason) for r in outcome.rejects] == [("b.mp4", "missing")]
        assert list(verify(Store(url))) == []
    assert build(videos, url, client).exit_code(strict=False) == 1
    away.rename(videos / "b.mp4")
    outcome = build(videos, url, client)
    assert (outcome.clips, outcome.rejects, outcome.exit_code(strict=True)) == (9, [], 0)
    assert list(verify(Store(url))) == []


def test_a_replacement_of_the_same_size_and_time_is_scanned_by_the_next_run(
    videos: Path, tmp_path: Path, client: Client
):
    """The list of files does not show it, the bytes do, where they are read."""
    url = tmp_path / "dataset"
    build(videos, url, client)
    for stored in (url / "clips").iterdir():
        stored.unlink()
    manifest = read_manifest(Store(url))
    planned = replace(manifest, state="building", shards={}, settled=0, tables=plan_files(manifest))
    write_manifest(Store(url), planned)
    time, size = (videos / "b.mp4").stat().st_mtime_ns, (videos / "b.mp4").stat().st_size
    data = bytearray((videos / "c.mp4").read_bytes()[:size].ljust(size, b"\0"))
    (videos / "b.mp4").write_bytes(data)
    os.utime(videos / "b.mp4", ns=(time, time))
    outcome = build(videos, url, client)
    assert outcome.exit_code(strict=False) == 1
    assert [Path(path).name for path in outcome.changed] == ["b.mp4"]
    assert build(videos, url, client).exit_code(strict=False) == 0
    assert build(videos, tmp_path / "plain", client).exit_code(strict=False) == 0
    assert contents(url) == contents(tmp_path / "plain")


def test_a_video_that_is_another_for_a_while_leaves_no_trace_beside_the_dataset(
    videos: Path, tmp_path: Path, client: Client
):
    """Not even among the results of scans, which a rerun adds to."""
    build(videos, tmp_path / "undisturbed", client)
    url = tmp_path / "dataset"
    build(videos, url, client)
    manifest = read_manifest(Store(url))
    planned = replace(manifest, state="building", shards={}, settled=0, tables=plan_files(manifest))
    write_manifest(Store(url), planned)
    for stored in (url / "clips").iterdir():
        stored.unlink()
    Scans(Store(url), CONFIG.scan_settings).forget([str(videos / "b.mp4")])  # as after a failure
    assert build(videos, url, client).exit_code(strict=True) == 0
    assert contents(url) == contents(tmp_path / "undisturbed")


def test_a_dataset_of_an_earlier_format_is_not_continued(
    videos: Path, tmp_path: Path, client: Client
):
    url = tmp_path / "dataset"
    build(videos, url, client)
    manifest = read_manifest(Store(url))
    tables = {"clips.parquet": "0" * 64, "rejects.parquet": manifest.tables["rejects.parquet"]}
    write_manifest(Store(url), replace(manifest, tables=tables, settled=0))
    with pytest.raises(UsageError, match="was planned by an earlier version"):
        build(videos, url, client)
