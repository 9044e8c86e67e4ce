"""What a source video holds, and whether it still holds what its clips were planned from."""

import hashlib
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from shards import Clip


class SourceChanged(Exception):
    """A video is not, or no longer there as, the one that was scanned.

    An event of the environment: it says nothing about the clips, and nothing is made from it.
    """


def content_sha256(path: str) -> str:
    """Of the file as it is now; hashed once in each of its states in a process.

    Raises:
        OSError: it cannot be read.
    """
    state = os.stat(path)
    return _sha256(path, state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino)


@lru_cache(maxsize=1024)
def _sha256(path: str, size: int, mtime_ns: int, ctime_ns: int, inode: int) -> str:
    """Of a file in the state that the other arguments tell."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    raise SourceChanged(f"{clip.path} {problem} {clip.key} was made from: {remedy}")


@dataclass(frozen=True, kw_only=True, slots=True)
class FileState:
    """What tells, without reading it, that a file is the one that was seen before.

    Attributes:
        size: bytes.
        state: text that changes with the file: when it was written.
    """

    size: int
    state: str


def file_state(path: str) -> FileState:
    """Of the file as it is now; OSError if it cannot be looked at."""
    stat = os.stat(path)
    return FileState(size=stat.st_size, state=str(stat.st_mtime_ns))
