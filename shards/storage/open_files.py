"""Local files that are read again and again, each opened once.

To open a file costs more than to read some of it, and on a network's file system asks a server.
"""

import os
import threading
import weakref
from collections import OrderedDict


class OpenFiles:
    """Reads ranges of local files; those that were read latest stay open. Safe for threads.

    A file that takes the place of one that is open is not seen until that is closed.

    Args:
        most: that stay open. A thread may have one more open while it reads.
    """

    def __init__(self, most: int = 64) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._open: OrderedDict[str, _File] = OrderedDict()
        if most:
            with _GUARD:
                _EVERY.add(self)

    def close(self) -> None:
        """Close what is open, but for what a thread reads at this moment."""
        with self._lock:
            self._open.clear()

    def read_range(self, path: str, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`; fewer where the file ends early.

        Raises:
            OSError: it cannot be opened or read; the next call opens it anew.
        """
        with self._lock:
            file = self._open.get(path)
        if file is None:
            file = _File(path)
        try:
            data = os.pread(file.descriptor, size, offset)
        except OSError:
            with self._lock:
                self._open.pop(path, None)
            raise
        with self._lock:
            self._open[path] = file
            self._open.move_to_end(path)
            while len(self._open) > self._most:
                self._open.popitem(last=False)
        return data


_GUARD, _EVERY = threading.Lock(), weakref.WeakSet[OpenFiles]()


def close_idle() -> None:
    """Close the files of all that keep some open, for a process that may open no more."""
    with _GUARD:
        every = list(_EVERY)
    for files in every:
        files.close()


class _File:
    """Closed when nobody refers to it any more: another thread may be reading."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)
