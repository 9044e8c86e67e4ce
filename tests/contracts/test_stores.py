"""What every store does, whatever file system is below it."""

import multiprocessing
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
import tenacity
from fsspec.implementations.local import LocalFileSystem

from shards.storage import failures
from shards.store import TEMPORARY_PREFIX, Store
from tests.servers import Proxy


class Server(LocalFileSystem):
    """Stands for file servers (SFTP, HDFS): no object storage, and a rename of its own."""

    protocol = "server"


class Plain(Server):
    """One without a rename: fsspec copies and deletes."""

    protocol = "plain"
    mv = fsspec.AbstractFileSystem.mv


@pytest.fixture(autouse=True)
def file_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (Server, Plain):
        fsspec.register_implementation(kind.protocol, kind, clobber=True)


@pytest.fixture(params=["local", "memory", "s3", "server"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "s3":
        return Store(request.getfixturevalue("bucket") + "/folder")
    urls = {"local": "", "memory": "memory:/", "server": "server://"}
    return Store(urls[request.param] + str(tmp_path))


def test_what_is_written_is_read_back_by_ranges(store: Store):
    data = bytes(range(100))
    store.write("deep/er/file.bin", data)
    assert store.exists("deep/er/file.bin")
    assert not store.exists("deep/er/file")
    assert store.read("deep/er/file.bin") == data
    assert store.size("deep/er/file.bin") == 100
    for offset, size in ((0, 100), (10, 5), (98, 5), (100, 5), (120, 5), (7, 0)):
        found = store.read_range("deep/er/file.bin", offset, size)
        assert found == data[offset : offset + size], (offset, size)


def test_a_forked_process_reads_on(store: Store):
    """As a loader's worker does; s3fs and gcsfs refuse to work on in it."""
    data = bytes(range(100))
    store.write("file.bin", data)

    def read() -> None:
        assert store.read_range("file.bin", 10, 5) == data[10:15]

    child = multiprocessing.get_context("fork").Process(target=read)
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert store.read("file.bin") == data


def test_what_others_write_is_seen_at_once(store: Store):
    other = Store(store.url)
    assert store.files("a") == other.files("a") == []
    other.write("a/1.bin", b"x")
    assert store.files("a") == ["a/1.bin"]
    assert store.exists("a/1.bin")
    other.write("a/1.bin", b"longer")
    assert store.size("a/1.bin") == 6
    other.delete("a/1.bin")
    assert not store.exists("a/1.bin")


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


def test_files_move_and_folders_go(store: Store):
    for name in ("a/1.bin", "b/c/2.bin", "b/3.bin"):
        store.write(name, name.encode())
    for _ in range(2):
        store.move("a/1.bin", "d/e/4.bin")
        store.delete_folder("b")
    assert store._found("") == ["d/e/4.bin"]
    assert store.read("d/e/4.bin") == b"a/1.bin"


@pytest.mark.parametrize("operation", ["read", "size"])
def test_an_absent_file_is_an_error_at_once(store: Store, operation: str):
    with pytest.raises(FileNotFoundError):
        getattr(store, operation)("nothing")


def test_nothing_appears_of_a_writer_that_fails(store: Store):
    store.write("kept.bin", b"old")

    def fail(name: str) -> None:
        with store.publish(name) as file:
            file.write(b"half")
            raise RuntimeError("disk on fire")

    for name in ("file.bin", "kept.bin"):
        with pytest.raises(RuntimeError, match="disk on fire"):
            fail(name)
    assert store._found("") == ["kept.bin"]
    assert store.read("kept.bin") == b"old"


def test_readers_see_one_whole_file_or_another_while_writers_race(store: Store):
    contents = {bytes([n]) * 200_000 for n in range(4)}
    store.write("file.bin", next(iter(contents)))

    def write(content: bytes) -> None:
        for _ in range(3):
            store.write("file.bin", content)

    with ThreadPoolExecutor(8) as pool:
        writers = [pool.submit(write, content) for content in contents]
        while not all(writer.done() for writer in writers):
            assert store.read("file.bin") in contents
        for writer in writers:
            writer.result()
    assert store._found("") == ["file.bin"]


def test_a_folder_is_tried_before_work_begins_and_left_as_it_was(store: Store):
    store.check_writable()
    assert store._found("") == []


WRITE = """
import sys
from shards import Store
with Store(sys.argv[1]).publish("sub/file.bin") as file:
    file.write(b"half")
    file.flush()
    print(flush=True)
    input()
"""


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_nothing_is_seen_of_a_writer_that_is_killed(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
):
    url = str(tmp_path) if kind == "local" else request.getfixturevalue("bucket")
    store = Store(url)
    store.write("sub/other.bin", b"whole")
    command = [sys.executable, "-c", WRITE, url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        process.send_signal(signal.SIGKILL)
    assert store.files() == ["sub/other.bin"]
    store.remove_unfinished()
    assert store._found("") == ["sub/other.bin"]


UPLOAD = """
import sys, s3fs.core
from shards import Store
s3fs.core.calculate_chunksize = lambda *_, **__: 5 * 2**20
Store(sys.argv[1]).write("big.bin", bytes(11 * 2**20))
"""


def uploads(store: Store) -> list:
    found = store._filesystem.call_s3("list_multipart_uploads", Bucket=store.url[5:])
    return found.get("Uploads", [])


def test_an_upload_in_parts_that_is_killed_leaves_nothing(bucket: str, s3_proxy: Proxy):
    second_part = "partNumber=2"
    s3_proxy.faults = lambda number, method, path: "stall" if second_part in path else None
    with subprocess.Popen([sys.executable, "-c", UPLOAD, bucket]) as process:
        while not any(second_part in path for _, path, _ in s3_proxy.met):
            assert process.poll() is None
            time.sleep(0.05)  # the servers are threads of this process
        process.send_signal(signal.SIGKILL)
    store = Store(bucket)
    assert store._found("") == []
    assert len(uploads(store)) == 1
    store.remove_unfinished()
    assert uploads(store) == []


def is_part(method: str, path: str) -> bool:
    return method == "PUT" and "partNumber" in path


def is_end(method: str, path: str) -> bool:
    return method == "POST" and "uploadId" in path


@pytest.mark.parametrize(("fault", "where"), [("drop", is_part), ("half", is_end)])
def test_an_upload_in_parts_that_is_cut_is_done_again(
    bucket: str, s3_proxy: Proxy, monkeypatch: pytest.MonkeyPatch, fault: str, where
):
    """Also if it had ended, and only the answer was lost."""
    monkeypatch.setattr("s3fs.core.calculate_chunksize", lambda *_, **__: 5 * 2**20)
    monkeypatch.setattr(failures, "PAUSE", tenacity.wait_none())

    def once(number: int, method: str, path: str) -> str | None:
        hit = where(method, path) and not any(fault for *_, fault in s3_proxy.met)
        return fault if hit else None

    s3_proxy.faults = once
    store, data = Store(bucket), bytes(range(256)) * 2**12 * 11
    store.write("big.bin", data)
    assert any(met for *_, met in s3_proxy.met)
    assert store.read("big.bin") == data
    assert uploads(store) == []


@pytest.mark.parametrize("fault", ["500", "503", "drop", "half", "stall", "lost"])
def test_what_fails_for_a_moment_is_done_again(
    bucket: str, s3_proxy: Proxy, monkeypatch: pytest.MonkeyPatch, fault: str
):
    monkeypatch.setattr(failures, "PAUSE", tenacity.wait_none())

    def first_of_each_kind(number: int, method: str, path: str) -> str | None:
        return None if any(method == before for before, *_ in s3_proxy.met) else fault

    s3_proxy.faults = first_of_each_kind
    store = Store(bucket)
    store.write("file.bin", bytes(1000))
    assert store.read_range("file.bin", 10, 500) == bytes(500)
    assert store.files() == ["file.bin"]
    assert sum(met is not None for *_, met in s3_proxy.met) == 2


def test_a_server_that_stays_down_ends_it_with_file_cause_and_remedy(
    bucket: str, s3_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(failures, "PAUSE", tenacity.wait_none())
    s3_proxy.faults = lambda *_: "503"
    with pytest.raises(failures.StorageFailure) as caught:
        Store(bucket).read_range("a/file.bin", 0, 10)
    assert str(caught.value) == (
        f"{bucket}/a/file.bin: injected (tried 8 times): see whether the server can be reached and "
        "is well, then run the same command again"
    )
    assert len(s3_proxy.met) == 8


def test_a_file_system_on_which_no_file_can_appear_whole_is_refused(tmp_path: Path):
    with pytest.raises(failures.UsageError, match="cannot appear whole"):
        Store(f"plain://{tmp_path}").check_writable()
    assert list(tmp_path.iterdir()) == []
