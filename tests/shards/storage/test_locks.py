"""One job alone: a killed job's lock never blocks for long, a living one's always."""

import errno
import fcntl
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tenacity

from shards.storage import failures, locks
from shards.storage.locks import LOCK
from shards.store import Store, UsageError
from tests.servers import Proxy

Told = list[str]

HOLD = """
import sys
from shards import Store
with Store(sys.argv[1]).alone(print):
    print("held", flush=True)
    input()
"""


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renewed and looked at often; long waited for, as renewals show at once who is alive."""
    for name, seconds in (("RENEWAL_S", 0.05), ("PATIENCE_S", 60.0), ("_LOOK_S", 0.05)):
        monkeypatch.setattr(locks, name, seconds)


@pytest.fixture(params=["local", "s3", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "s3":
        return Store(request.getfixturevalue("bucket") + "/folder")
    return Store(tmp_path if request.param == "local" else f"memory://{tmp_path.name}")


def kill_a_holder(store: Store, while_it_holds: Callable[[], None]) -> None:
    command = [sys.executable, "-c", HOLD, store.url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        while_it_holds()
        process.send_signal(signal.SIGKILL)


@pytest.mark.usefixtures("quick")
def test_a_second_job_is_refused_and_touches_nothing(store: Store, told: Told):
    with store.alone(told.append):
        assert told == []
        with pytest.raises(UsageError, match=rf"another job is writing to {store.url}"):
            store.alone(told.append).__enter__()
        assert store.files() == []
        assert not store.is_occupied(), "a lock is no file of a dataset"
        assert store.exists(LOCK)
    assert not store.exists(LOCK)
    with store.alone(told.append):
        pass


def test_a_job_that_fails_lets_go(store: Store, told: Told):
    with pytest.raises(RuntimeError), store.alone(told.append):
        raise RuntimeError
    assert not store.exists(LOCK)


def test_the_lock_of_a_killed_job_does_not_block_a_local_folder(tmp_path: Path, told: Told):
    store = Store(tmp_path)

    def refused() -> None:
        with pytest.raises(UsageError, match="another job"):
            store.alone(told.append).__enter__()

    kill_a_holder(store, refused)
    assert (tmp_path / LOCK).exists()
    with store.alone(told.append):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick")
def test_the_lease_of_a_killed_job_is_taken_over(
    bucket: str, told: Told, monkeypatch: pytest.MonkeyPatch
):
    store = Store(f"{bucket}/folder")
    kill_a_holder(store, lambda: None)
    monkeypatch.setattr(locks, "PATIENCE_S", 0.2)
    process = json.loads(store.read(LOCK))["process"]
    with store.alone(told.append):
        assert json.loads(store.read(LOCK))["process"] != process
    assert len(told) == 1
    assert told[0].startswith(f"{store.url} is locked (process {process} on ")
    assert store.files() == []


@pytest.mark.usefixtures("quick")
def test_who_loses_a_lease_is_told_and_leaves_the_other_s(bucket: str, told: Told):
    store = Store(bucket)
    with store.alone(told.append):
        store.write(LOCK, b"another's")
    assert told == [
        f"{bucket} was taken over by another job meanwhile: run `fluxshard verify {bucket}`"
    ]
    assert store.read(LOCK) == b"another's"


def test_a_lease_whose_answer_is_lost_is_held(s3_proxy: Proxy, bucket: str, told: Told):
    s3_proxy.faults = lambda number, *_: "stall" if number == 0 else None
    with Store(bucket).alone(told.append):
        pass
    assert told == []
    assert [method for method, _, _ in s3_proxy.met][:2] == ["PUT", "PUT"]


def test_a_lock_that_its_holder_deletes_at_that_moment_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Told
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
    with Store(tmp_path).alone(told.append):
        assert (tmp_path / LOCK).exists()
        with pytest.raises(UsageError, match="another job"):
            Store(tmp_path).alone(told.append).__enter__()


def test_where_there_are_no_locks_the_job_goes_on_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: Told
):
    with Store(tmp_path / "absent").alone(told.append):
        pass
    assert not (tmp_path / "absent").exists()
    assert told == []

    def none_here(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none_here)
    with Store(tmp_path).alone(told.append):
        pass
    assert told == [f"{tmp_path} cannot be locked (No locks available): run no other job on it"]


def test_a_lock_that_cannot_be_removed_does_not_undo_the_job(
    s3_proxy: Proxy, bucket: str, told: Told, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(failures, "PAUSE", tenacity.wait_none())
    with Store(bucket).alone(told.append):
        s3_proxy.faults = lambda *_: "503"
    assert [text.partition(",")[0] for text in told] == [f"the lock of {bucket} stays"]


def test_where_there_is_no_bucket_there_is_nothing_to_lock(bucket: str, told: Told):
    with Store(f"{bucket}-absent/folder").alone(told.append):
        pass
    assert told == []


def test_a_store_without_conditional_puts_is_used_and_said(
    bucket: str, monkeypatch: pytest.MonkeyPatch, told: Told
):
    store = Store(bucket)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSYS, "A header you provided implies functionality not implemented")

    monkeypatch.setattr(store._filesystem, "pipe_file", refuse)
    with store.alone(told.append):
        pass
    (text,) = told
    assert text.startswith(f"{bucket} cannot be locked (")
    assert text.endswith("run no other job on it")
