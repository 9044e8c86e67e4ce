"""Files over HTTP: ranges, and failures that are not taken for absence."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import tenacity

from shards.storage import failures, web
from shards.storage.failures import StorageFailure, UsageError
from shards.store import Store
from tests.servers import STALL_S, Proxy, web_server


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Before a web server of a folder with a file of a hundred bytes."""
    monkeypatch.setattr(failures, "PAUSE", tenacity.wait_none())
    monkeypatch.setattr(web, "TIMEOUT_S", STALL_S / 3)
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
def test_what_fails_for_a_moment_is_asked_again(proxy: Proxy, fault: str):
    proxy.faults = lambda number, *_: fault if number < 2 else None
    assert Store(proxy.url).read_range("file.bin", 10, 50) == bytes(range(10, 60))
    assert [met for *_, met in proxy.met] == [fault, fault, None]


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
