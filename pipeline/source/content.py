"""The bytes of a source video: read, hashed, and compared with what its clips were planned from.

What goes wrong here is an event of the environment, never a verdict on the video: it is raised,
and what raised it can be tried again.
"""

import hashlib
import os
import time
from contextlib import closing
from functools import lru_cache

from pipeline.progress import tell_progress
from pipeline.source.files import FileState, file_state, open_bytes
from shards import Clip

# Without a packet, while its bytes are read: far longer than any sound file takes.
TIMEOUT_S = 300.0
_BLOCK = 2**20  # bytes


class Event(Exception):
    """Something happened to a video, or to the machine, that says nothing about its content.

    Nothing is made from it and nothing is rejected for it; a later run may well succeed. Errors of
    the file system stay `OSError`, and are events, too.
    """


class SourceChanged(Event):
    """A video is not, or no longer there as, the one that was scanned.

    Args:
        message: a sentence.
        path: of the video.
    """

    def __init__(self, message: str, path: str) -> None:
        super().__init__(message, path)

    def __str__(self) -> str:
        return self.args[0]

    @property
    def path(self) -> str:
        return self.args[1]


class Stalled(Event):
    """A video is read and read, yet nothing comes out of it."""


class SourceFile:
    """A video's bytes for FFmpeg, which takes a failed read for damage or for the end.

    So no failure gets there: it is kept, the file seems to end, and `check` raises it.

    Args:
        timeout_s: how long FFmpeg may read on without a packet, see `allow`.

    Attributes:
        name: a hint at the format.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self.name = path
        self._timeout_s = timeout_s
        self._failure: Exception | None = None
        self._raw = open_bytes(path)
        self._size = self._raw.size
        self._at = 0
        self.allow()

    def allow(self) -> None:
        """Something came out: the time to the next packet counts from now."""
        self._deadline = time.monotonic() + self._timeout_s

    def check(self) -> None:
        """Raise what went wrong so far.

        Raises:
            OSError: the file cannot be read.
            SourceChanged: it became shorter.
            Stalled: nothing came out in time.
        """
        if self._failure is not None:
            raise self._failure

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end, and after a failure."""
        size = min(size, self._size - self._at)
        if size <= 0 or self._failure is not None:
            return b""
        if time.monotonic() >= self._deadline:
            return self._fail(
                Stalled(f"nothing came out of {self.name} in {self._timeout_s:g} s of reading it")
            )
        try:
            data = self._raw.read_at(self._at, size)
        except OSError as error:
            return self._fail(error)
        if not data:
            message = f"{self.name} became shorter while it was read"
            return self._fail(SourceChanged(message, self.name))
        self._at += len(data)
        return data

    def _fail(self, failure: Exception) -> bytes:
        self._failure = failure
        return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """The new position, or -1 for one before the start, which damaged files ask for."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            return -1
        self._at = base + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._raw.close()


def content_sha256(path: str) -> str:
    """Of the file as it is now; hashed once in each of its states in a process.

    Raises:
        OSError: it cannot be read.
        SourceChanged: it became shorter meanwhile.
    """
    return _sha256(path, file_state(path))


@lru_cache(maxsize=1024)
def _sha256(path: str, state: FileState) -> str:
    """Of a file in a state."""
    digest = hashlib.sha256()
    with closing(SourceFile(path)) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            file.allow()
            tell_progress()
        file.check()
    return digest.hexdigest()


def check_content(clip: Clip, remedy: str) -> None:
    """Called before and after a clip's frames are read: both times the file is what was scanned.

    Raises:
        SourceChanged: it is another, or gone; the message ends with the remedy.
        OSError: it cannot be read.
    """
    try:
        if content_sha256(clip.path) == clip.source_sha256:
            return
    except FileNotFoundError:
        problem = "is gone, the video that clip"
    else:
        problem = "is not the video that clip"
    message = f"{clip.path} {problem} {clip.key} was made from: {remedy}"
    raise SourceChanged(message, clip.path)
