"""Scans become clips with what their sources tell; rejects survive their table."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.planning.clip_table import accepted, clips_of_scans, reject_table, rejects_of_table
from pipeline.planning.scan import Scan
from pipeline.planning.scans import Scans, scanned
from pipeline.records import Reject, Source
from pipeline.source.files import FileState
from shards import Store
from shards.schema import CLIP_TABLE

ScanOf = Callable[..., Scan]
STATE = FileState(size=1, version="1")


@pytest.fixture
def scans(tmp_path: Path, scan_of: ScanOf) -> Scans:
    """Of a (2 clips), b (a reject), c (the bytes of a) and d (1 clip)."""
    reject = Reject(path="/b", sha256="b" * 64, stage="probe", reason="empty", detail="no bytes")
    found = Scans(Store(tmp_path), "settings")
    for scan in (scan_of("a", 2), reject, scan_of("c", 1, content="a"), scan_of("d", 1)):
        found.add(scanned(scan, STATE))
    found.flush()
    return found


SOURCES = [
    Source(path="/a.mp4", caption="a dog", columns={"n": 1, "shot": "close-up"}),
    Source(path="/b"),
    Source(path="/c.mp4"),
    Source(path="/d.mp4", columns={"n": 0.5}),
]


def test_the_first_of_equal_videos_is_accepted_and_the_others_say_why_not(scans: Scans):
    numbers, rejects = accepted(scans, np.arange(4), SOURCES, {})
    assert numbers == [0, 3]
    assert [(r.path, r.reason) for r in rejects] == [("/b", "empty"), ("/c.mp4", "duplicate")]
    assert rejects[1].detail == "the same bytes as /a.mp4"
    order = [2, 0]
    numbers, _ = accepted(scans, np.array(order), [SOURCES[n] for n in order], {})
    assert numbers == [0]


def test_a_video_that_was_planned_before_is_neither_accepted_nor_refused(scans: Scans):
    numbers, rejects = accepted(scans, np.arange(4), SOURCES, {"a" * 64: "/a.mp4"})
    assert (numbers, [r.path for r in rejects]) == ([3], ["/b", "/c.mp4"])
    numbers, rejects = accepted(scans, np.arange(4), SOURCES, {"a" * 64: "/old.mp4"})
    assert [r.detail for r in rejects if r.path == "/a.mp4"] == ["the same bytes as /old.mp4"]


def test_clips_tell_what_their_sources_do(scans: Scans):
    (table,) = clips_of_scans(scans, np.array([0, 3]), [SOURCES[0], SOURCES[3]])
    assert table["key"].to_pylist() == ["a-0", "a-1", "d-0"]
    assert table["caption"].to_pylist() == ["a dog", "a dog", ""]
    assert table["n"].to_pylist() == [1, 1, 0.5]
    assert table["user_shot"].to_pylist() == ["close-up", "close-up", None]
    assert table["shot"].to_pylist() == [0, 0, 0]
    ours = table.select([name for name in CLIP_TABLE.names if name != "shard"])
    assert ours.schema.equals(CLIP_TABLE.remove(CLIP_TABLE.get_field_index("shard")))


def test_rejects_are_read_back():
    rejects = [
        Reject(path="/a", sha256=None, stage="probe", reason="empty", detail="no bytes"),
        Reject(path="/b", sha256="1" * 64, stage="clips", reason="too_short", detail="3 frames"),
    ]
    assert rejects_of_table(reject_table(rejects)) == rejects
    assert rejects_of_table(reject_table([])) == []
