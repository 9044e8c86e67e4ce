"""Publishing is all or nothing, on disk and on object storage; passing errors are tried again."""

import errno
import fcntl
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tenacity

from shards.store import LOCK, TEMPORARY_PREFIX, Store, UsageError, is_passing


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    local = request.param == "local"
    return Store(str(tmp_path) if local else f"memory://{tmp_path.name}")


def test_what_is_written_is_read_back_by_ranges(store: Store):
    store.write("deep/er/file.bin", bytes(range(100)))
    assert store.exists("deep/er/file.bin")
    assert store.read("deep/er/file.bin") == bytes(range(100))
    assert store.read_range("deep/er/file.bin", 10, 5) == bytes(range(10, 15))
    assert store.read_range("deep/er/file.bin", 98, 5) == bytes([98, 99])


def test_a_failing_writer_leaves_nothing(store: Store):
    def fail() -> None:
        with store.publish("file.bin") as file:
            file.write(b"half")
            raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        fail()
    assert not store.exists("file.bin")


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


def test_files_are_listed_by_names_that_open_and_can_be_deleted(store: Store):
    assert store.files("nowhere") == []
    for name in ("b/2.bin", "a/1.bin", f"a/{TEMPORARY_PREFIX}x"):
        store.write(name, name.encode())
    assert store.files() == ["a/1.bin", "b/2.bin"]
    assert store.files("b") == ["b/2.bin"]
    assert [store.read(name) for name in store.files()] == [b"a/1.bin", b"b/2.bin"]
    store.delete("a/1.bin")
    store.delete("a/1.bin")
    assert store.files() == ["b/2.bin"]


def test_an_absent_file_is_an_error_at_once(store: Store):
    with pytest.raises(FileNotFoundError):
        store.read("nothing")


def test_a_store_travels_and_is_known_by_its_url(store: Store):
    store.write("file.bin", b"x")
    twin = pickle.loads(pickle.dumps(store))
    assert twin == store
    assert twin.read("file.bin") == b"x"
    assert store.at("a", "b") == f"{store.url}/a/b"


def test_an_unknown_protocol_is_refused_at_once():
    with pytest.raises(UsageError, match="nope://x"):
        Store("nope://x")


def test_only_a_local_folder_with_something_in_it_is_occupied(tmp_path: Path):
    assert not Store(tmp_path / "new").is_occupied()
    assert not Store(tmp_path).is_occupied()
    (tmp_path / "thesis.tex").touch()
    assert Store(tmp_path).is_occupied()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between attempts."""
    for name in ("read", "read_range", "exists", "_upload"):
        monkeypatch.setattr(getattr(Store, name).retry, "wait", tenacity.wait_none())


class Flaky:
    """A method of a file system that fails some times before it works."""

    def __init__(self, works: Any, errors: list[Exception]) -> None:
        self.works, self.errors, self.calls = works, errors, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.works(*args, **kwargs)


@pytest.mark.usefixtures("at_once")
def test_errors_that_pass_are_tried_again(monkeypatch: pytest.MonkeyPatch):
    store = Store("memory://flaky")
    store.write("file.bin", b"x")
    filesystem = store._filesystem
    passing = [
        ConnectionResetError(errno.ECONNRESET, "reset"),
        OSError("no number"),
        TimeoutError(),
    ]
    flaky = Flaky(filesystem.cat_file, list(passing))
    monkeypatch.setattr(filesystem, "cat_file", flaky)
    assert store.read("file.bin") == b"x"
    assert flaky.calls == 4
    flaky.errors = [OSError("no number")] * 9
    with pytest.raises(OSError, match="no number"):
        store.read_range("file.bin", 0, 1)
    assert flaky.calls == 4 + 5
    upload = Flaky(filesystem.put_file, list(passing))
    monkeypatch.setattr(filesystem, "put_file", upload)
    store.write("other.bin", b"y")
    assert upload.calls == 4


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("x"),
        PermissionError(errno.EACCES, "x"),
        OSError(errno.ENOSPC, "full"),
        OSError(errno.EROFS, "read-only"),
        ValueError("x"),
    ],
)
def test_errors_that_stay_are_not_tried_again(error: Exception):
    assert not is_passing(error)


def test_a_second_job_on_a_local_folder_is_refused_and_touches_nothing(tmp_path: Path):
    store = Store(tmp_path)
    with store.alone() as unlocked:
        assert unlocked is None
        with pytest.raises(UsageError, match=rf"another job is writing to {tmp_path}"):
            store.alone().__enter__()
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]
        assert store.files() == []
        assert not store.is_occupied(), "a lock is no file of a dataset"
    assert list(tmp_path.iterdir()) == []
    with store.alone():
        pass


HOLD = """
import sys
from shards import Store
with Store(sys.argv[1]).alone():
    print(flush=True)
    input()
"""


def test_the_lock_of_a_killed_job_does_not_block(tmp_path: Path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(UsageError, match="another job"):
            Store(tmp_path).alone().__enter__()
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / LOCK).exists()
    with Store(tmp_path).alone():
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_its_holder_deletes_at_that_moment_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Two jobs would else hold locks on two files, one of them without a name."""
    flock, calls = fcntl.flock, 0

    def delete_first(descriptor: int, how: int) -> None:
        nonlocal calls
        flock(descriptor, how)
        calls += 1
        if calls == 1:
            (tmp_path / LOCK).unlink()

    monkeypatch.setattr(fcntl, "flock", delete_first)
    with Store(tmp_path).alone():
        assert (tmp_path / LOCK).exists()
        with pytest.raises(UsageError, match="another job"):
            Store(tmp_path).alone().__enter__()


def test_where_there_are_no_locks_the_job_goes_on_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with Store("memory://lock").alone() as unlocked:
        assert unlocked is None
    with Store(tmp_path / "absent").alone() as unlocked:
        assert unlocked is None
    assert not (tmp_path / "absent").exists()

    def none_here(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none_here)
    with Store(tmp_path).alone() as unlocked:
        assert (
            unlocked == f"{tmp_path} cannot be locked (No locks available): run no other job on it"
        )


def test_the_size_of_a_file(store: Store):
    store.write("a/file.bin", bytes(7))
    assert store.size("a/file.bin") == 7
    with pytest.raises(FileNotFoundError):
        store.size("a/nothing")
