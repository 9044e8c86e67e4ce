"""What is kept of remote files: given back as it was, within its bound, at its own risk."""

import errno
import os
import time
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from shards.storage import range_cache
from shards.storage.range_cache import RangeCache

PAGE = 4096


def payload(seed: int, size: int = 3000) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def fits(data: bytes) -> Callable[[bytes], bool]:
    return lambda found: zlib.crc32(found) == zlib.crc32(data)


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir())


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def fill(cache: RangeCache, digest: str, pages: int) -> int:
    """Ask for ranges of a page each, keep those that are missing; returns how many were there."""
    found = 0
    for number in range(pages):
        data, offset = payload(number, PAGE), number * PAGE
        if cache.read(digest, ".tar", {(offset, PAGE): fits(data)}):
            found += 1
        else:
            cache.write(digest, ".tar", offset, data)
    return found


def test_ranges_come_back_and_what_nobody_wrote_is_missing(tmp_path: Path) -> None:
    cache = RangeCache(str(tmp_path / "new"), 10**6, {"a"})
    one, two = payload(1), payload(2)
    cache.write("a", ".tar", 70_000, one)
    cache.write("a", ".tar", 100, two)
    wanted = {
        (70_000, 3000): fits(one),
        (100, 3000): fits(two),
        (9000, 50): fits(b"in a hole"),
        (69_990, 20): fits(b"partly"),
        (10**6, 50): fits(b"beyond the end"),
    }
    found = cache.read("a", ".tar", wanted)
    assert found == {(70_000, 3000): one, (100, 3000): two}
    assert cache.read("b", ".tar", {(100, 3000): fits(two)}) == {}
    assert (cache.hits, cache.misses) == (2, 4)
    whole = payload(3)
    cache.write("a", ".parquet", 0, whole)
    assert cache.read_whole("a", ".parquet", fits(whole)) == whole
    assert cache.read_whole("b", ".parquet", fits(whole)) is None


def test_damage_is_missing_and_counted_and_is_written_over(tmp_path: Path) -> None:
    data, cache = payload(1), RangeCache(str(tmp_path), 10**6, {"a"})
    cache.write("a", ".tar", 0, data)
    with (tmp_path / "a.tar").open("r+b") as file:
        file.seek(1000)
        file.write(bytes([data[1000] ^ 1]))
    assert cache.read("a", ".tar", {(0, 3000): fits(data)}) == {}
    assert (cache.hits, cache.misses, cache.damaged) == (0, 1, 1)
    cache.write("a", ".tar", 0, data)
    assert cache.read("a", ".tar", {(0, 3000): fits(data)}) == {(0, 3000): data}


def test_of_an_epoch_that_is_too_long_the_share_that_fits_stays(tmp_path: Path) -> None:
    limit = 60 * PAGE
    cache = RangeCache(str(tmp_path), limit, {"a"})
    assert fill(cache, "a", 120) == 0
    assert 50 <= fill(cache, "a", 120) == fill(cache, "a", 120) <= 60
    assert on_disk(tmp_path) <= limit


def test_processes_that_fill_one_folder_keep_its_bound(tmp_path: Path) -> None:
    limit = 100 * PAGE
    caches = [RangeCache(str(tmp_path), limit, {f"{rank}"}) for rank in range(6)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(fill, caches, map(str, range(6)), [40] * 6))
    assert 80 * PAGE <= on_disk(tmp_path) <= limit


def test_room_is_made_of_what_no_run_uses_the_oldest_first(tmp_path: Path) -> None:
    for name, seconds in (("old", 9000), ("older", 99_000), ("new", 5), ("mine", 99_000)):
        fill(RangeCache(str(tmp_path), 10**9, {name}), name, 20)
        age(tmp_path / f"{name}.tar", seconds)
    fill(RangeCache(str(tmp_path), 100 * PAGE, {"mine", "next"}), "next", 18)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["mine", "new", "next", "old"]
    fill(RangeCache(str(tmp_path), 100 * PAGE, {"mine", "next"}), "next", 50)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["mine", "new", "next"]
    assert on_disk(tmp_path) <= 100 * PAGE
    assert time.time() - (tmp_path / "mine.tar").stat().st_mtime < 60, "marked as in use"


def test_a_full_disk_costs_the_cache_and_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, cache = payload(1), RangeCache(str(tmp_path), 10**6, {"a"})
    cache.write("a", ".tar", 0, data)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(range_cache.os, "pwrite", full)
    with pytest.warns(RuntimeWarning, match="keeps nothing more .*No space left") as told:
        fill(cache, "a", 3)
    assert len(told) == 1
    assert cache.read("a", ".tar", {(0, 3000): fits(data)}), "what is there is still read"


def test_a_folder_that_cannot_be_made_is_told_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = RangeCache(str(tmp_path / "file" / "cache"), 10**6, {"a"})
    with pytest.warns(RuntimeWarning, match="Not a directory") as told:
        fill(cache, "a", 3)
    assert len(told) == 1
    assert fill(cache, "a", 3) == 0


def test_a_folder_that_is_deleted_is_made_again(tmp_path: Path) -> None:
    cache = RangeCache(str(tmp_path / "cache"), 10**6, {"a"})
    fill(cache, "a", 3)
    (tmp_path / "cache" / "a.tar").unlink()
    (tmp_path / "cache").rmdir()
    assert (fill(cache, "a", 3), fill(cache, "a", 3)) == (0, 3)


def test_a_process_without_files_keeps_nothing_for_the_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = RangeCache(str(tmp_path), 10**6, {"a"})

    def none_left(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch, warnings.catch_warnings():
        patch.setattr(range_cache.os, "open", none_left)
        assert fill(cache, "a", 3) == 0
    assert (fill(cache, "a", 3), fill(cache, "a", 3)) == (0, 3)
