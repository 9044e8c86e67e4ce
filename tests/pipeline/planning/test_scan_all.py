"""Inputs are scanned once: events are tried again, verdicts and clips are kept."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from distributed import KilledWorker
from distributed.scheduler import WorkerState

from pipeline.planning import scan_all as module
from pipeline.planning.config import BuildConfig
from pipeline.planning.scan_all import scan_all
from pipeline.planning.scans import Scans
from pipeline.records import Reject, Source
from pipeline.source.files import file_state
from shards import Store

CONFIG = BuildConfig(size=(32, 48), frames=5, shots="none", levels=(1,))
Fail = Callable[[str], Exception | None]


class Cluster:
    """Runs tasks here, last first, and counts the files that were decoded."""

    def __init__(self) -> None:
        self.scanned: list[str] = []
        self.fail: Fail = lambda path: None

    def run(self, client: Any, function: Any, items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        for index, item in reversed(list(enumerate(items))):
            path = item[0]
            if error := self.fail(path):
                yield index, error
                continue
            try:
                yield index, function(item)
            except Exception as error:
                yield index, error

    def scan_video(self, scan: Any) -> Any:
        def counted(source: Source, *args: Any, **options: Any) -> Any:
            self.scanned.append(Path(source.path).name)
            return scan(source, *args, **options)

        return counted


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    cluster = Cluster()
    monkeypatch.setattr(module, "run_tasks", cluster.run)
    monkeypatch.setattr(module, "scan_video", cluster.scan_video(module.scan_video))
    monkeypatch.setattr(module, "PAUSES_S", (0.0, 0.0))
    return cluster


@pytest.fixture
def sources(
    tmp_path: Path, write_video: Callable[..., str], moving_pictures: Callable[..., Any]
) -> list[Source]:
    """a and b are videos, c is empty."""
    for seed, name in enumerate("ab"):
        made = Path(write_video(f"{name}.mp4", moving_pictures(12, 64, 64, seed)))
        (tmp_path / made.name).write_bytes(made.read_bytes())
    (tmp_path / "c.mp4").touch()
    return [Source(path=str(tmp_path / f"{name}.mp4")) for name in "abc"]


def scan(sources: Sequence[Source], folder: Path) -> tuple[list[str], dict[int, Reject], Scans]:
    scans = Scans(Store(folder / "dataset"), CONFIG.scan_settings)
    places, events = scan_all(sources, scans, CONFIG, None, lambda *_: None)  # type: ignore[arg-type]
    rows = scans.rows(places[places >= 0])
    found = [
        f"{Path(row['path']).name} {row['reason'] or len(row['clips'])}" for row in rows.to_pylist()
    ]
    return found, events, scans


def test_every_input_has_its_result_and_is_scanned_once(
    cluster: Cluster, sources: list[Source], tmp_path: Path
):
    for scanned in (["c.mp4", "b.mp4", "a.mp4"], []):
        found, events, _ = scan(sources, tmp_path)
        assert found == ["a.mp4 2", "b.mp4 2", "c.mp4 empty"]
        assert events == {}
        assert cluster.scanned == scanned
        cluster.scanned.clear()
    scan(sources[::-1], tmp_path)
    assert cluster.scanned == []


def test_only_what_is_new_or_changed_is_scanned(
    cluster: Cluster, sources: list[Source], tmp_path: Path
):
    scan(sources[:1], tmp_path)
    cluster.scanned.clear()
    assert scan(sources[:2], tmp_path)[0] == ["a.mp4 2", "b.mp4 2"]
    assert cluster.scanned == ["b.mp4"]
    cluster.scanned.clear()
    Path(sources[0].path).write_bytes(Path(sources[1].path).read_bytes()[:-1])
    scan(sources[:2], tmp_path)
    assert cluster.scanned == ["a.mp4"]


def test_a_file_that_was_touched_or_renamed_is_recognised_by_its_bytes(
    cluster: Cluster, sources: list[Source], tmp_path: Path
):
    scan(sources, tmp_path)
    cluster.scanned.clear()
    os.utime(sources[0].path, (1, 1))
    renamed = Path(sources[1].path).rename(tmp_path / "new.mp4")
    found, _, scans = scan([sources[0], Source(path=str(renamed))], tmp_path)
    assert found == ["a.mp4 2", "new.mp4 2"]
    assert cluster.scanned == []
    (row,) = scans.rows(scans.places([(str(renamed), str(file_state(str(renamed))))])).to_pylist()
    assert [clip["path"] for clip in row["clips"]] == [str(renamed)] * 2
    assert all(clip["key"].startswith("new-") for clip in row["clips"])


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KilledWorker("task", cast(WorkerState, SimpleNamespace(address="tcp://")), 3), "crashed"),
        (FileNotFoundError(2, "gone"), "missing"),
        (OSError(5, "Input/output error"), "event"),
    ],
)
def test_an_event_is_no_result_and_tried_again_at_once_and_by_the_next_run(
    cluster: Cluster, sources: list[Source], tmp_path: Path, error: Exception, reason: str
):
    tries: list[str] = []

    def fail(path: str) -> Exception | None:
        if Path(path).name == "b.mp4":
            tries.append(path)
            return error if len(tries) <= 3 else None
        return None

    cluster.fail = fail
    found, events, _ = scan(sources, tmp_path)
    assert found == ["a.mp4 2", "c.mp4 empty"]
    assert [(number, reject.reason) for number, reject in events.items()] == [(1, reason)]
    assert "the next build tries it again" in events[1].detail
    assert len(tries) == 3
    cluster.scanned.clear()
    found, events, _ = scan(sources, tmp_path)
    assert (found[1], events) == ("b.mp4 2", {})
    assert cluster.scanned == ["b.mp4"]


def test_an_event_that_passes_is_not_told(cluster: Cluster, sources: list[Source], tmp_path: Path):
    away = Path(sources[0].path).rename(tmp_path / "away")
    tries: list[str] = []

    def come_back(path: str) -> None:
        tries.append(path)
        if len(tries) == 4 and away.exists():
            away.rename(sources[0].path)

    cluster.fail = come_back
    found, events, _ = scan(sources, tmp_path)
    assert (found[0], events) == ("a.mp4 2", {})


def test_places_of_events_are_marked(cluster: Cluster, sources: list[Source], tmp_path: Path):
    scan(sources, tmp_path)
    Path(sources[1].path).unlink()
    scans = Scans(Store(tmp_path / "dataset"), CONFIG.scan_settings)
    places, events = scan_all(sources, scans, CONFIG, None, lambda *_: None)  # type: ignore[arg-type]
    assert np.flatnonzero(places < 0).tolist() == [1] == list(events)
    assert events[1].reason == "missing"
