"""Tars are reproducible, and the spans that the writer reports are where the bytes are."""

import io
import tarfile
import zlib
from pathlib import Path

import pytest

from shards.store import Store
from shards.writer import shard_tar, tar_header


def write(path: Path) -> dict:
    with shard_tar(Store(path.parent), path.name) as tar:
        return {
            key: tar.add(key, {"mp4": key.encode() * 300, "json": b"{}", "txt": b""})
            for key in ("a", "b-2")
        }


def test_spans_point_at_the_data(tmp_path: Path):
    spans = write(tmp_path / "x.tar")
    data = (tmp_path / "x.tar").read_bytes()
    for key, members in spans.items():
        for extension, span in members.items():
            payload = data[span.offset : span.offset + span.size]
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                member = tar.extractfile(f"{key}.{extension}")
                assert member is not None
                assert member.read() == payload
            assert zlib.crc32(payload) == span.crc32
            header = data[span.offset - 512 : span.offset]
            assert header == tar_header(f"{key}.{extension}", span.size)


def test_the_same_samples_give_the_same_bytes(tmp_path: Path):
    write(tmp_path / "x.tar")
    write(tmp_path / "y.tar")
    assert (tmp_path / "x.tar").read_bytes() == (tmp_path / "y.tar").read_bytes()


@pytest.mark.parametrize("key", ["a.b", "ümlaut", "", "x" * 81, "a/b"])
def test_a_key_that_readers_would_misread_is_refused(tmp_path: Path, key: str):
    with (
        pytest.raises(ValueError, match="WebDataset cuts names"),
        shard_tar(Store(tmp_path), "x") as t,
    ):
        t.add(key, {"mp4": b""})
    assert not list(tmp_path.iterdir())
