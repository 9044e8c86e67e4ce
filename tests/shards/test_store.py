"""Publishing is all or nothing, on disk and on object storage."""

from pathlib import Path

import pytest

from shards.store import (
    TEMPORARY_PREFIX,
    delete,
    exists,
    list_files,
    publish,
    read_bytes,
    read_range,
    remove_unfinished,
    write_bytes,
)


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"


def test_what_is_written_is_read_back_by_ranges(folder: str):
    url = f"{folder}/deep/er/file.bin"
    write_bytes(url, bytes(range(100)))
    assert exists(url)
    assert read_bytes(url) == bytes(range(100))
    assert read_range(url, 10, 5) == bytes(range(10, 15))
    assert read_range(url, 98, 5) == bytes([98, 99])


def test_a_failing_writer_leaves_nothing(folder: str):
    def fail() -> None:
        with publish(f"{folder}/file.bin") as file:
            file.write(b"half")
            raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        fail()
    assert not exists(f"{folder}/file.bin")


def test_nothing_is_visible_before_the_end(tmp_path: Path):
    with publish(f"{tmp_path}/sub/file.bin") as file:
        file.write(b"half")
        assert [path.name[0] for path in (tmp_path / "sub").iterdir()] == ["."]
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["file.bin"]


def test_what_a_killed_writer_left_is_swept(tmp_path: Path):
    writer = publish(f"{tmp_path}/sub/file.bin")
    writer.__enter__().write(b"half")
    write_bytes(f"{tmp_path}/sub/other.bin", b"whole")
    remove_unfinished(str(tmp_path))
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["other.bin"]


def test_published_files_are_readable_by_others(tmp_path: Path):
    write_bytes(f"{tmp_path}/file.bin", b"x")
    assert (tmp_path / "file.bin").stat().st_mode & 0o777 == 0o644


def test_files_are_listed_with_urls_that_open_and_can_be_deleted(folder: str):
    assert list_files(f"{folder}/nowhere") == []
    for name in ("b/2.bin", "a/1.bin", f"a/{TEMPORARY_PREFIX}x"):
        write_bytes(f"{folder}/{name}", name.encode())
    found = list_files(folder)
    assert [read_bytes(url) for url in found] == [b"a/1.bin", b"b/2.bin"]
    delete(found[0])
    delete(found[0])
    assert list_files(folder) == found[1:]
