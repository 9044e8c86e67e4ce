"""A file's digest follows it through every change, and is computed once for each."""

import errno
import hashlib
import os
import pickle
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.source.content import (
    Event,
    SourceChanged,
    SourceFile,
    Stalled,
    check_content,
    content_sha256,
)
from shards import Clip


def clip_of(path: Path) -> Clip:
    return Clip(
        key="a-0",
        path=str(path),
        source_sha256=content_sha256(str(path)),
        numbers=(0,),
        pts=(0,),
        time_base=Fraction(1, 25),
        fps=Fraction(25),
        size=(32, 48),
        shot=0,
        repeated=0,
        decode_errors=0,
        seekable=True,
    )


@pytest.mark.parametrize("how", ["grown", "rewritten", "replaced", "gone"])
def test_a_change_is_noticed_also_where_size_and_time_stay(tmp_path: Path, how: str):
    path, other = tmp_path / "a.mp4", tmp_path / "b.mp4"
    path.write_bytes(b"video")
    clip = clip_of(path)
    check_content(clip, "do it")
    before = path.stat()
    match how:
        case "grown":
            path.write_bytes(b"videos")
        case "rewritten":
            while path.stat().st_ctime_ns == before.st_ctime_ns:  # the clock's ticks are coarse
                path.write_bytes(b"VIDEO")
                os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        case "replaced":
            other.write_bytes(b"VIDEO")
            os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
            other.replace(path)
        case "gone":
            path.unlink()
    with pytest.raises(SourceChanged, match=r"a\.mp4 is .* clip a-0 was made from: do it"):
        check_content(clip, "do it")


def test_a_file_is_hashed_once_in_each_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, hashed, digest = tmp_path / "a.mp4", [], hashlib.sha256

    def counted():
        hashed.append(path)
        return digest()

    monkeypatch.setattr("hashlib.sha256", counted)
    path.write_bytes(b"video")
    clip = clip_of(path)
    for _ in range(3):
        check_content(clip, "")
    assert len(hashed) == 1
    os.utime(path, (1, 1))  # touched, yet the same
    check_content(clip, "")
    assert len(hashed) == 2
    with pytest.raises(SourceChanged):
        check_content(replace(clip, source_sha256="0" * 64), "")
    assert len(hashed) == 2


def test_bytes_come_as_they_are(tmp_path: Path):
    path = tmp_path / "a.mp4"
    path.write_bytes(bytes(range(100)))
    file = SourceFile(str(path))
    assert (file.seek(90), file.read(20), file.read(20)) == (90, bytes(range(90, 100)), b"")
    assert (file.seek(-8, os.SEEK_END), file.seek(3, os.SEEK_CUR), file.tell()) == (92, 95, 95)
    assert (file.seek(-200, os.SEEK_END), file.tell()) == (-1, 95)
    assert (file.seek(2**70), file.read(1)) == (2**70, b"")
    file.check()
    assert content_sha256(str(path)) == hashlib.sha256(bytes(range(100))).hexdigest()
    file.close()


def test_a_failure_is_kept_and_nothing_comes_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path, read = tmp_path / "a.mp4", os.pread
    path.write_bytes(bytes(100))

    def fail(*_):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    file = SourceFile(str(path))
    assert file.read(10) == bytes(10)
    monkeypatch.setattr(os, "pread", fail)
    assert file.read(10) == b""
    monkeypatch.setattr(os, "pread", read)
    assert file.read(10) == b""
    with pytest.raises(OSError, match="Stale file handle"):
        file.check()
    file.close()


def test_a_file_that_became_shorter_is_another(tmp_path: Path):
    path = tmp_path / "a.mp4"
    path.write_bytes(bytes(100))
    file = SourceFile(str(path))
    os.truncate(path, 50)
    assert len(file.read(100)) == 50
    assert file.read(100) == b""
    with pytest.raises(SourceChanged, match="became shorter"):
        file.check()
    file.close()


def test_the_time_counts_from_what_came_out_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path, clock = tmp_path / "a.mp4", SimpleNamespace(now=0.0)
    path.write_bytes(bytes(100))
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr("pipeline.source.content.time", clock)
    file = SourceFile(str(path), timeout_s=5)
    for clock.now in (4, 8, 12):
        assert file.read(1)
        file.allow()
    clock.now = 17
    assert not file.read(1)
    with pytest.raises(Stalled, match=r"nothing came out of .*a.mp4 in 5 s"):
        file.check()
    file.close()


def test_events_travel_between_processes():
    for event in (SourceChanged("a is gone"), Stalled("b stands")):
        copy = pickle.loads(pickle.dumps(event))
        assert isinstance(copy, Event)
        assert (type(copy), f"{copy}") == (type(event), f"{event}")
