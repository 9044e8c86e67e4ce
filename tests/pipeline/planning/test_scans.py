"""Results of scans are found again by file or by bytes, and never taken from a damaged part."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.planning import scans as module
from pipeline.planning.scan import Scan
from pipeline.planning.scans import SCANNED, Scans, moved, scanned
from pipeline.records import Reject
from pipeline.source.files import FileState
from shards import Store

ScanOf = Callable[..., Scan]


def state(number: int) -> FileState:
    return FileState(size=number, version=str(number))


def filled(folder: Path, scan_of: ScanOf, names: str, settings: str = "settings") -> Scans:
    found = Scans(Store(folder), settings)
    for name in names:
        found.add(scanned(scan_of(name, 2), state(ord(name))))
    found.flush()
    return found


def file(name: str) -> tuple[str, str]:
    return f"/{name}.mp4", str(state(ord(name)))


def test_results_are_found_by_path_and_state_also_by_another_process(
    tmp_path: Path, scan_of: ScanOf
):
    for found in (filled(tmp_path, scan_of, "abc"), Scans(Store(tmp_path), "settings")):
        places = found.places([file("c"), file("x"), ("/a.mp4", "other"), file("a")])
        assert places.tolist() == [2, -1, -1, 0]
        rows = found.rows(places[[0, 3]])
        assert rows["path"].to_pylist() == ["/c.mp4", "/a.mp4"]
        assert [len(clips) for clips in rows["clips"].to_pylist()] == [2, 2]
        assert found.contents(places[[0, 3]]) == ["c" * 64, "a" * 64]


def test_rows_come_in_any_order_from_any_part(
    tmp_path: Path, scan_of: ScanOf, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_PART_ROWS", 2)
    found = filled(tmp_path, scan_of, "abcdefg")
    assert len(Store(tmp_path).files("scans")) == 4
    order = np.array([6, 0, 3, 3, 1])
    paths = found.rows(order)["path"].to_pylist()
    assert paths == [f"/{name}.mp4" for name in "gaddb"]
    assert found.rows(np.array([], np.int64)).schema.equals(SCANNED)


def test_a_video_is_found_by_its_bytes_under_another_name(tmp_path: Path, scan_of: ScanOf):
    found = filled(tmp_path, scan_of, "ab")
    assert found.of_size({ord("a"), 5}) == {ord("a"): {"a" * 64}}
    assert found.with_bytes(["b" * 64, "x" * 64]).tolist() == [1, -1]
    row = moved(found.rows(np.array([1])), "/new name.mkv", state(9))
    (facts,) = row.to_pylist()
    assert (facts["path"], facts["size"], facts["state"]) == ("/new name.mkv", 9, str(state(9)))
    assert [clip["path"] for clip in facts["clips"]] == ["/new name.mkv"] * 2
    assert facts["clips"][1]["key"] == "new_name-bbbbbbbbbbbb-00001"
    assert facts["source_sha256"] == "b" * 64


def test_the_last_result_of_a_file_counts(tmp_path: Path, scan_of: ScanOf):
    found = filled(tmp_path, scan_of, "aba")
    assert found.places([file("a")]).tolist() == [2]


def test_refused_videos_are_kept_too(tmp_path: Path):
    found = Scans(Store(tmp_path), "settings")
    reject = Reject(path="/b", sha256=None, stage="probe", reason="empty", detail="no bytes")
    found.add(scanned(reject, state(1)))
    found.flush()
    place = found.places([("/b", str(state(1)))])
    assert found.contents(place) == [None]
    (row,) = found.rows(place).to_pylist()
    assert (row["stage"], row["reason"], row["detail"]) == ("probe", "empty", "no bytes")
    assert row["clips"] == []


def test_results_of_other_settings_and_damaged_parts_do_not_count(tmp_path: Path, scan_of: ScanOf):
    filled(tmp_path, scan_of, "a")
    assert len(Scans(Store(tmp_path), "others")) == 0
    (part,) = (tmp_path / "scans").iterdir()
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    assert len(Scans(Store(tmp_path), "settings")) == 0


def test_a_part_is_written_before_it_grows_old(
    tmp_path: Path, scan_of: ScanOf, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_PART_SECONDS", 0.0)
    found = Scans(Store(tmp_path), "settings")
    found.add(scanned(scan_of("a", 1), state(1)))
    assert len(Scans(Store(tmp_path), "settings")) == 1


def test_settled_results_do_not_tell_in_which_order_they_came(
    tmp_path: Path, scan_of: ScanOf, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_PART_ROWS", 2)
    contents = []
    for number, names in enumerate(("abcde", "edcbab", "caebd")):
        found = filled(tmp_path / str(number), scan_of, names)
        found.settle(found.places([file(name) for name in "abcd"]))
        assert found.places([file(name) for name in "abcde"]).tolist() == [0, 1, 2, 3, 4]
        assert found.contents(np.array([4, 0])) == ["e" * 64, "a" * 64]
        contents.append(
            {p.name: p.read_bytes() for p in (tmp_path / str(number) / "scans").iterdir()}
        )
    assert contents[0] == contents[1] == contents[2]


def test_forgotten_results_leave_no_trace_once_they_are_back(tmp_path: Path, scan_of: ScanOf):
    found = filled(tmp_path, scan_of, "abc")
    before = Store(tmp_path).files("scans")
    found.forget({"/b.mp4"})
    assert found.places([file(name) for name in "abc"]).tolist() == [0, -1, 1]
    found.add(scanned(scan_of("b", 2), state(ord("b"))))
    found.flush()
    assert Store(tmp_path).files("scans") != before
    for _ in range(2):
        found.settle(found.places([file(name) for name in "abc"]))
        assert Store(tmp_path).files("scans") == before


def test_what_a_file_held_before_is_forgotten(tmp_path: Path, scan_of: ScanOf):
    found = filled(tmp_path, scan_of, "ab")
    found.add(scanned(scan_of("a", 1, content="f"), state(3)))
    found.flush()
    found.settle(found.places([("/a.mp4", str(state(3)))]))
    assert len(found) == 2
    assert found.places([file("a"), file("b"), ("/a.mp4", str(state(3)))]).tolist() == [-1, 1, 0]


def test_parts_hold_few_clips_where_videos_have_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scan_of: ScanOf
):
    """What is held at once is so many clips, not so many videos of any length."""
    monkeypatch.setattr(module, "_PART_CLIPS", 10)
    store = Store(tmp_path)
    scans = Scans(store, "settings")
    counts = [4, 4, 4, 25, 0, 3, 8]
    for name, count in zip("abcdefg", counts, strict=True):
        scans.add(scanned(scan_of(name, count), state(ord(name))))
    assert len(store.files("scans")) == 3, "each was written when it had too many clips"
    scans.flush()
    opened = Scans(store, "settings")
    for found in (scans, opened):
        chunks = [chunk.tolist() for chunk in found.chunks(np.arange(7), 256)]
        assert chunks == [[0, 1], [2], [3], [4, 5], [6]]
        assert len(list(found.chunks(np.arange(7), 1))) == 7
    opened.settle(np.arange(7))
    parts = [len(pq.read_table(tmp_path / name)) for name in store.files("scans")]
    assert parts == [2, 1, 1, 2, 1]
    rows = opened.rows(np.arange(7))
    assert [len(clips) for clips in rows["clips"].to_pylist()] == counts
