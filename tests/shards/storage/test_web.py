"""Files over HTTP: ranges, and failures that are not taken for absence."""

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tenacity

from shards.storage import failures, web
from shards.storage.failures import StorageFailure, UsageError, attempt
from shards.store import Store
from tests.servers import STALL_S, Proxy, web_server


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Before a web server of a folder with a file of a hundred bytes."""
    monkeypatch.setattr(failures, "PAUSE", tenacity.wait_none())
    for name in ("file.bin", "whole.bin"):
        (tmp_path / name).write_bytes(bytes(range(100)))
    with web_server(tmp_path) as url, Proxy(url).running() as proxy:
        yield proxy


def test_a_file_is_read_whole_and_by_ranges(proxy: Proxy):
    store = Store(proxy.url)
    assert store.read("file.bin") == bytes(range(100))
    assert store.size("file.bin") == 100
    assert store.exists("file.bin")
    for offset, size in ((0, 100), (10, 5), (98, 5), (100, 5), (7, 0)):
        assert store.read_range("file.bin", offset, size) == bytes(range(100))[offset:][:size]


def test_an_absent_file_is_absent(proxy: Proxy):
    store = Store(proxy.url)
    assert not store.exists("nothing.bin")
    with pytest.raises(FileNotFoundError):
        store.read("nothing.bin")


@pytest.mark.parametrize("fault", ["500", "503", "drop", "half", "stall"])
def test_what_fails_for_a_moment_is_asked_again(
    proxy: Proxy, fault: str, monkeypatch: pytest.MonkeyPatch
):
    if fault == "stall":
        monkeypatch.setattr(web, "TIMEOUT_S", STALL_S / 3)
    proxy.faults = lambda number, *_: fault if number < 2 else None
    assert Store(proxy.url).read_range("file.bin", 10, 50) == bytes(range(10, 60))
    assert [met for *_, met in proxy.met] == [fault, fault, None]


def test_connections_are_kept_one_for_each_thread_that_asks(proxy: Proxy):
    store = Store(proxy.url)
    for offset in range(20):
        assert store.read_range("file.bin", offset, 2) == bytes([offset, offset + 1])
    assert not store.exists("nothing.bin")
    with pytest.raises(FileNotFoundError):
        store.read("nothing.bin")
    assert proxy.connections == 1
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda n: store.read_range("file.bin", n, 1), range(60)))
    assert read == [bytes([n]) for n in range(60)]
    assert proxy.connections <= 4


def test_a_kept_connection_that_the_server_closed_is_opened_anew_at_once(
    proxy: Proxy,
):
    store = Store(proxy.url)
    assert store.read("file.bin") == bytes(range(100))
    proxy.faults = lambda number, *_: "drop" if number == 1 else None
    assert attempt(lambda: web.WebFileSystem().cat_file(f"{proxy.url}/file.bin"), "", attempts=1)
    assert [met for *_, met in proxy.met] == [None, "drop", None]
    assert proxy.connections == 2


def test_a_forked_process_leaves_the_connections_of_its_parent_alone(proxy: Proxy):
    store = Store(proxy.url)
    store.read("file.bin")
    child = multiprocessing.get_context("fork").Process(target=store.read, args=("file.bin",))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    assert store.read("file.bin") == bytes(range(100))
    assert proxy.connections == 2


@pytest.mark.parametrize("operation", ["exists", "size", "read"])
def test_a_server_that_is_down_is_no_absence(proxy: Proxy, operation: str):
    proxy.faults = lambda *_: "503"
    with pytest.raises(StorageFailure, match="the server answers 503"):
        getattr(Store(proxy.url), operation)("file.bin")


def test_a_server_without_ranges_is_said_to_be_one(proxy: Proxy):
    with pytest.raises(StorageFailure, match="gives whole files only, no ranges"):
        Store(proxy.url).read_range("whole.bin", 10, 5)
    assert len(proxy.met) == 1


def test_nothing_can_be_written(proxy: Proxy):
    with pytest.raises(UsageError, match="cannot appear whole"):
        Store(proxy.url).check_writable()
