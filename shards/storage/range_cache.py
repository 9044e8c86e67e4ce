"""What was read of remote files, kept in a local folder for the next epoch or run.

The folder holds a sparse copy of each file, with the bytes that somebody asked for in their places
and holes elsewhere. Nothing else says what is there: whoever reads compares checksums anyhow, and
holes, writes that were cut off and damaged disks all fail them. So processes share a folder without
a lock, and a killed one leaves nothing to clean up.
"""

import os
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress

from shards.storage.failures import EXHAUSTED

Span = tuple[int, int]  # offset, size
Check = Callable[[bytes], bool]
_LOOK_S = 60.0  # between looks at the folder, each of which marks files as in use
_IDLE_S = 600.0  # files that nobody marked for so long are nobody's
_PAGE = 4096  # that a range may take on top of its bytes
_STEP = 16 << 20  # bytes written between looks; less where less is allowed
_SHARERS = 8  # processes that may fill a folder at the same time without going over the limit


class RangeCache:
    """Ranges of files, by the digest of what a file holds; safe for threads and processes.

    Ranges are added while there is room, and stay: of an epoch that is longer than the cache, the
    share that fits is found each time, whereas to drop what was read the longest ago would drop
    every range shortly before its turn. Room is made of files that no run uses any more, the one
    that was used the longest ago first. What goes wrong with the folder costs the cache, never the
    run, and is told once, as a RuntimeWarning.

    Args:
        folder: a local one; made where it is absent.
        limit: bytes that the files in it may take on disk, of all runs together.
        own: digests that this run may ask for.

    Attributes:
        hits, misses: ranges that were found, and that were not.
        damaged: of the misses, those that were there and had other bytes.
    """

    def __init__(self, folder: str, limit: int, own: Collection[str]) -> None:
        self._folder, self._own = folder, frozenset(own)
        self._step = min(_STEP, limit // 256)
        self._limit = limit - _SHARERS * self._step
        self._lock = threading.Lock()
        self._used = self._written = 0  # bytes at the last look; bytes since then
        self._due, self._has_idle, self._is_open = 0.0, False, True
        self.hits = self.misses = self.damaged = 0

    def read(self, digest: str, suffix: str, spans: Mapping[Span, Check]) -> dict[Span, bytes]:
        """Those ranges of a file that are there and pass their check.

        Args:
            digest: of what the file holds.
            suffix: of its kind, as `.tar`.
        """
        if self._is_time_to_look():
            self._look()
        found, damaged = dict[Span, bytes](), 0
        with suppress(OSError), _opened(self._path(digest, suffix), os.O_RDONLY) as descriptor:
            for (offset, size), check in spans.items():
                data = os.pread(descriptor, size, offset)
                if check(data):
                    found[offset, size] = data
                elif data != bytes(len(data)):  # no hole
                    damaged += 1
        with self._lock:
            self.hits += len(found)
            self.misses += len(spans) - len(found)
            self.damaged += damaged
        return found

    def read_whole(self, digest: str, suffix: str, check: Check) -> bytes | None:
        """All of a file; None if it is not there, or fails its check."""
        size = 0
        with suppress(OSError):
            size = os.path.getsize(self._path(digest, suffix))
        return self.read(digest, suffix, {(0, size): check}).get((0, size))

    def write(self, digest: str, suffix: str, offset: int, data: bytes) -> None:
        """Keep a range of a file, if there is room."""
        if not self._takes(len(data) + _PAGE):
            return
        with self._at_its_own_risk():
            os.makedirs(self._folder, exist_ok=True)
            path = self._path(digest, suffix)
            with _opened(path, os.O_WRONLY | os.O_CREAT) as descriptor:
                os.pwrite(descriptor, data, offset)

    def _path(self, digest: str, suffix: str) -> str:
        return os.path.join(self._folder, f"{digest}{suffix}")

    def _takes(self, size: int) -> bool:
        """Whether so many bytes more may be written; they are counted then."""
        if self._written > self._step or (self._has_idle and not self._fits(size)):
            self._look(size)
        with self._lock:
            if not (self._is_open and self._fits(size)):
                return False
            self._written += size
            return True

    def _fits(self, size: int) -> bool:
        return self._used + self._written + size <= self._limit

    def _is_time_to_look(self) -> bool:
        with self._lock:
            now = time.monotonic()
            if now < self._due:
                return False
            self._due = now + _LOOK_S
            return True

    def _look(self, needed: int = 0) -> None:
        """Count what is there, mark what this run may use, make room of what nobody does."""
        room = max(needed, self._step)
        before, used, idle = self._written, 0, list[tuple[float, int, str]]()
        with self._at_its_own_risk():
            for entry in os.scandir(self._folder):
                with suppress(FileNotFoundError):  # another process made room of it
                    facts, size = entry.stat(), entry.stat().st_blocks * 512
                    used += size
                    if entry.name.partition(".")[0] in self._own:
                        os.utime(entry.path)
                    elif time.time() - facts.st_mtime > _IDLE_S:
                        idle.append((facts.st_mtime, size, entry.path))
            idle.sort(reverse=True)
            while idle and used + room > self._limit:
                _, size, path = idle.pop()
                with suppress(FileNotFoundError):
                    os.unlink(path)
                used -= size
        with self._lock:
            self._used, self._written = used, self._written - before
            self._has_idle = bool(idle)

    @contextmanager
    def _at_its_own_risk(self) -> Iterator[None]:
        """What fails with the folder closes it to writes, and is told."""
        try:
            yield
        except OSError as error:
            if isinstance(error, FileNotFoundError) or error.errno in EXHAUSTED:
                return  # there is nothing yet, or not now: the next time, perhaps
            with self._lock:
                was_open, self._is_open = self._is_open, False
            if was_open:
                warnings.warn(
                    f"{self._folder} keeps nothing more of what is read ({error}): free some of "
                    "its disk, or set stream.cache to a folder that can be written to",
                    RuntimeWarning,
                    stacklevel=1,
                )


@contextmanager
def _opened(path: str, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
