import os
import resource
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from shards.storage.failures import Exhausted
from shards.storage.open_files import OpenFiles
from shards.store import Store


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Of five files of ten bytes, each of its number."""
    for number in range(5):
        (tmp_path / str(number)).write_bytes(bytes([number]) * 10)
    return [str(tmp_path / str(number)) for number in range(5)]


def opened(paths: list[str]) -> list[str]:
    return [file.path for file in psutil.Process().open_files() if file.path in paths]


def test_ranges_are_those_of_the_file(paths: list[str]) -> None:
    files = OpenFiles()
    assert [files.read_range(path, 8, 5) for path in paths] == [bytes([n]) * 2 for n in range(5)]
    assert files.read_range(paths[0], 10, 5) == b""


def test_a_file_is_opened_once(paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    calls, original = [], os.open

    def counted(path: str, flags: int) -> int:
        calls.append(path)
        return original(path, flags)

    monkeypatch.setattr(os, "open", counted)
    files = OpenFiles()
    for _ in range(3):
        for path in paths:
            files.read_range(path, 0, 1)
    assert calls == paths


def test_few_stay_open_and_none_after_it_is_gone(paths: list[str]) -> None:
    files = OpenFiles(2)
    for path in (*paths, paths[3]):
        files.read_range(path, 0, 1)
    assert sorted(opened(paths)) == paths[3:]
    files.read_range(paths[0], 0, 1)
    assert sorted(opened(paths)) == [paths[0], paths[3]]  # 4 was read the longest ago
    del files
    assert opened(paths) == []


def test_none_stays_open_where_none_may(paths: list[str]) -> None:
    files = OpenFiles(0)
    assert files.read_range(paths[1], 0, 1) == b"\1"
    assert opened(paths) == []


def test_what_cannot_be_read_is_opened_anew(
    paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = OpenFiles()
    files.read_range(paths[0], 0, 1)
    os.unlink(paths[0])
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", lambda *_: (_ for _ in ()).throw(OSError("stale file handle")))
        with pytest.raises(OSError, match="stale"):
            files.read_range(paths[0], 0, 1)
    with pytest.raises(FileNotFoundError):
        files.read_range(paths[0], 0, 1)
    Path(paths[0]).write_bytes(b"anew")
    assert files.read_range(paths[0], 0, 9) == b"anew"


def test_threads_that_crowd_each_other_out_read_what_they_asked_for(paths: list[str]) -> None:
    files, start = OpenFiles(1), threading.Barrier(4)

    def read(thread: int) -> bool:
        start.wait(30)
        numbers = [(thread + step) % 5 for step in range(300)]
        return all(files.read_range(paths[n], 3, 2) == bytes([n, n]) for n in numbers)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(4)))
    assert len(opened(paths)) == 1


@pytest.fixture
def three_more() -> Iterator[None]:
    """This process may open three files more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open(os.devnull, os.O_RDONLY)]
    most = max(map(int, os.listdir("/proc/self/fd"))) + 9
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(taken[0]))
        for _ in range(3):
            os.close(taken.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for descriptor in taken:
            os.close(descriptor)


def test_what_is_kept_open_is_closed_where_no_more_may_be(
    paths: list[str], three_more: None
) -> None:
    store, files = Store(Path(paths[0]).parent), OpenFiles()
    read = [store.read_range(str(number), 8, 2, files=files) for number in (0, 1, 2, 3, 4, 0)]
    assert read == [bytes([number]) * 2 for number in (0, 1, 2, 3, 4, 0)]


def test_a_process_without_files_is_told_its_limit(
    paths: list[str], three_more: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(3)]
    try:
        with pytest.raises(Exhausted, match=r"as many files open as it may, \d+: .*`ulimit -n \d"):
            Store(Path(paths[0]).parent).read_range("0", 8, 2, files=OpenFiles())
        monkeypatch.setattr(resource, "getrlimit", lambda _: (64, 64))
        with pytest.raises(
            Exhausted, match=r"it may, 64, which is the hard limit, too: raise that"
        ):
            Store(Path(paths[0]).parent).read_range("0", 8, 2, files=OpenFiles())
    finally:
        for descriptor in taken:
            os.close(descriptor)
