"""A file's digest follows it through every change, and is computed once for each."""

import hashlib
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from pipeline.source.content import SourceChanged, check_content, content_sha256
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
    path, hashed, digest = tmp_path / "a.mp4", [], hashlib.file_digest

    def counted(file, name):
        hashed.append(file.name)
        return digest(file, name)

    monkeypatch.setattr("hashlib.file_digest", counted)
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
