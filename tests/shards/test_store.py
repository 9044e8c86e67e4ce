"""Of a local folder, and of failures; `tests/contracts/test_stores.py` has what all stores do."""

import errno
import pickle
from pathlib import Path
from typing import Any

import pytest
import tenacity

from shards.storage import failures, filesystems
from shards.storage.failures import StorageFailure
from shards.store import Store, UsageError


def test_nothing_is_visible_before_the_end(tmp_path: Path):
    with Store(tmp_path).publish("sub/file.bin") as file:
        file.write(b"half")
        assert [path.name[0] for path in (tmp_path / "sub").iterdir()] == ["."]
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["file.bin"]


def test_what_a_killed_writer_left_is_swept(tmp_path: Path):
    store = Store(tmp_path)
    writer = store.publish("sub/file.bin")
    writer.__enter__().write(b"half")
    store.write("sub/other.bin", b"whole")
    store.remove_unfinished()
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["other.bin"]


def test_what_a_killed_job_left_on_object_storage_is_swept():
    store = Store("memory://swept")
    store.write("clips/.unfinished-job-000000.tar", b"half")
    store.write("clips/000000.tar", b"whole")
    store.remove_unfinished()
    assert store.files() == ["clips/000000.tar"]
    assert not store.exists("clips/.unfinished-job-000000.tar")


def test_published_files_are_readable_by_others(tmp_path: Path):
    Store(tmp_path).write("file.bin", b"x")
    assert (tmp_path / "file.bin").stat().st_mode & 0o777 == 0o644


def test_a_store_travels_and_is_known_by_its_url(tmp_path: Path):
    store = Store(tmp_path)
    store.write("file.bin", b"x")
    twin = pickle.loads(pickle.dumps(store))
    assert twin == store
    assert twin.read("file.bin") == b"x"
    assert store.at("a", "b") == f"{store.url}/a/b"


def test_a_folder_as_a_file_url_is_that_folder(tmp_path: Path):
    store = Store(f"file://{tmp_path}")
    assert store.is_local
    assert store == Store(tmp_path)
    with store.publish("file.bin"):
        assert [path.name[0] for path in tmp_path.iterdir()] == ["."], "beside its final name"


def test_a_folder_with_something_in_it_is_occupied(tmp_path: Path):
    assert not Store(tmp_path / "new").is_occupied()
    assert not Store(tmp_path).is_occupied()
    (tmp_path / "thesis.tex").touch()
    assert Store(tmp_path).is_occupied()


class Flaky:
    """A method of a file system that fails some times before it works."""

    def __init__(self, works: Any, errors: list[Exception]) -> None:
        self.works, self.errors, self.calls = works, errors, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.works(*args, **kwargs)


def test_errors_that_pass_are_tried_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(failures, "PAUSE", tenacity.wait_none())
    store = Store("memory://flaky")
    store.write("file.bin", b"x")
    filesystem = store._filesystem
    reset = ConnectionResetError(errno.ECONNRESET, "reset")
    flaky = Flaky(filesystem.cat_file, [reset, OSError("no number"), TimeoutError()])
    monkeypatch.setattr(filesystem, "cat_file", flaky)
    assert store.read("file.bin") == b"x"
    assert flaky.calls == 4
    flaky.errors = [OSError("no number")] * 99
    with pytest.raises(StorageFailure, match=r"memory://flaky/file.bin: no number \(tried 8 times"):
        store.read_range("file.bin", 0, 1)
    assert flaky.calls == 4 + 8
    upload = Flaky(filesystem.pipe_file, [reset])
    monkeypatch.setattr(filesystem, "pipe_file", upload)
    store.write("other.bin", b"y")
    assert upload.calls == 2


@pytest.mark.parametrize("problem", [errno.ENOTSUP, errno.EINVAL, errno.EPERM])
def test_mounts_without_permissions_or_sync_of_folders_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: int
):
    def refuse(*_: object) -> None:
        raise OSError(problem, "not here")

    monkeypatch.setattr(filesystems, "_sync_folder", refuse)
    monkeypatch.setattr(filesystems.os, "chmod", refuse)
    Store(tmp_path).write("file.bin", b"x")
    assert Store(tmp_path).read("file.bin") == b"x"


def test_a_folder_that_cannot_be_synced_for_another_reason_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(filesystems, "_sync_folder", fail)
    with pytest.raises(OSError, match="Input/output"):
        Store(tmp_path).write("file.bin", b"x")


def test_a_local_store_is_locked_by_its_path(tmp_path: Path):
    with (
        Store(tmp_path).alone(print),
        pytest.raises(UsageError, match=rf"another job is writing to {tmp_path}"),
    ):
        Store(f"file://{tmp_path}").alone(print).__enter__()


def test_a_full_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(filesystems.os, "fsync", full)
    with pytest.raises(UsageError, match=rf"{tmp_path} cannot be written to \(No space left"):
        Store(tmp_path).check_writable()
    assert list(tmp_path.iterdir()) == []


def test_a_relative_store_is_the_same_folder_wherever_it_is_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Store("here").write("a", b"x")
    data = pickle.dumps(Store("here"))
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert pickle.loads(data).read("a") == b"x"
