"""Source files by path or URL: what state they are in, their bytes, and which there are."""

import errno
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from shards import StorageFailure, Store, UsageError

_BLOCK = 4 * 2**20  # bytes of a remote file that are fetched at once
_KEPT = 4  # blocks of each: the one that is read, and the index at the other end
_AT_ONCE = 32  # requests
_AT_A_TIME = 4096


class SourceBytes(Protocol):
    """An opened file. `read_at` gives fewer bytes only where the file ends."""

    size: int

    def read_at(self, offset: int, size: int) -> bytes: ...

    def close(self) -> None: ...


def is_url(path: str) -> bool:
    """Whether it is a URL and no path of this machine."""
    return "://" in path


def open_bytes(path: str) -> SourceBytes:
    """The bytes of a file; FileNotFoundError, OSError: it is absent, or cannot be opened."""
    return _Remote(path) if is_url(path) else _Local(path)


class _Local:
    def __init__(self, path: str) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115  # FFmpeg has a buffer
        self.size = os.fstat(self._file.fileno()).st_size

    def read_at(self, offset: int, size: int) -> bytes:
        return os.pread(self._file.fileno(), size, offset)

    def close(self) -> None:
        self._file.close()


class _Remote:
    """Read by blocks, of which a few are kept: memory does not depend on the file's size."""

    def __init__(self, url: str) -> None:
        self._store, self._name = _place(url)
        self.size = file_state(url).size
        self._block = lru_cache(maxsize=_KEPT)(self._fetch)

    def _fetch(self, number: int) -> bytes:
        start = number * _BLOCK
        return self._store.read_range(self._name, start, min(_BLOCK, self.size - start))

    def read_at(self, offset: int, size: int) -> bytes:
        parts, end = [], min(offset + size, self.size)
        while offset < end:
            number, first = divmod(offset, _BLOCK)
            part = self._block(number)[first : first + end - offset]
            if not part:
                break
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def close(self) -> None:
        self._block.cache_clear()


def _place(url: str) -> tuple[Store, str]:
    folder, _, name = url.rpartition("/")
    return _store(folder), name


@lru_cache(maxsize=1024)
def _store(url: str) -> Store:
    return Store(url)


@dataclass(frozen=True, kw_only=True, slots=True)
class FileState:
    """What tells, without reading it, that a file is the one that was seen before.

    Attributes:
        size: bytes.
        version: when it was written; of a URL, the ETag or time that its server tells.
        place: what else changes with a local file, while this machine runs.
    """

    size: int
    version: str
    place: tuple[int, ...] = ()

    def __str__(self) -> str:
        """What another machine that sees the file says as well."""
        return f"{self.size} bytes, {self.version}"


def file_state(path: str) -> FileState:
    """Of a file as it is now.

    Raises:
        FileNotFoundError: there is none.
        OSError: it cannot be looked at, or its server tells too little to notice a change.
    """
    if not is_url(path):
        state = os.stat(path)
        place = state.st_ctime_ns, state.st_ino
        return FileState(size=state.st_size, version=str(state.st_mtime_ns), place=place)
    store, name = _place(path)
    size, version = store.state(name)
    if size is None or not version:
        raise StorageFailure(
            errno.ENOTSUP,
            f"the server of {path} tells no {'size' if size is None else 'ETag or time'}, without "
            "which a change would go unnoticed: download the file",
        )
    return FileState(size=size, version=version)


def states_of(paths: Sequence[str]) -> list[FileState | None]:
    """The state of each file; None for one that cannot be looked at now."""

    def state(path: str) -> FileState | None:
        try:
            return file_state(path)
        except OSError:
            return None

    states: list[FileState | None] = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for start in range(0, len(paths), _AT_A_TIME):  # what waits in a pool takes kilobytes each
            states += pool.map(state, paths[start : start + _AT_A_TIME])
    return states


def is_there(path: str) -> bool:
    """False only if it is known that there is no such file."""
    try:
        file_state(path)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def listed_below(url: str, wanted: Callable[[str], bool]) -> list[str]:
    """The file of a URL, else the wanted ones among all files below it.

    Web servers have no listing: what is named there is a file.

    Raises:
        UsageError: a web server has no such file.
    """
    if not url.endswith("/") and is_there(url):
        return [url]
    if url.startswith(("http://", "https://")):
        raise UsageError(f"{url}: no such file; files on a web server are named one by one")
    store = Store(url)
    return [store.at(name) for name in store.files() if wanted(name)]
