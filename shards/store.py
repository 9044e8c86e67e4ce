"""A folder of files, local or remote: atomic publishing, byte ranges, retries."""

import errno
import os
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from shards.storage.failures import ATTEMPTS, StorageFailure, UsageError, attempt
from shards.storage.filesystems import (
    TEMPORARY_PREFIX,
    abort_uploads,
    move,
    open_filesystem,
    published,
    put,
)
from shards.storage.filesystems import sync_folder as sync_folder  # for folders made elsewhere
from shards.storage.locks import LOCK, local_lock, remote_lease
from shards.storage.open_files import OpenFiles

__all__ = ["LOCK", "TEMPORARY_PREFIX", "StorageFailure", "Store", "UsageError"]

Result = TypeVar("Result")
_VERSIONS = ("ETag", "etag", "md5Hash", "LastModified", "last_modified", "mtime", "created")


class Store:
    """A folder and all below it; the file system is opened once. Names are relative, with `/`.

    Operations that fail for a passing reason are tried again, for some 15 seconds. A store can be
    pickled, and equals another of the same URL. docs/storage.md says what is atomic where.

    Attributes:
        url: a local path or an fsspec URL (`s3://…`, `gs://…`, `memory://…`).

    Raises:
        UsageError: the URL's protocol is unknown, or its package is not installed.
        StorageFailure: by all operations, if a remote file cannot be read or written.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self._process = os.getpid()
        self._opened, self._root = open_filesystem(os.fspath(url))
        self.is_local = type(self._opened) is LocalFileSystem
        self.url = os.fspath(url).removeprefix("file://")

    @property
    def _filesystem(self) -> AbstractFileSystem:
        if self._process != os.getpid():  # forked, in which s3fs and gcsfs do not work on
            self._process, (self._opened, _) = os.getpid(), open_filesystem(self.url)
        return self._opened

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Store) and self.url == other.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def __reduce__(self) -> tuple[type["Store"], tuple[str]]:
        # Elsewhere a relative path leads elsewhere.
        return Store, (os.path.abspath(self.url) if self.is_local else self.url,)

    @property
    def is_of_one_process(self) -> bool:
        """Whether other processes have another one under the same URL."""
        return isinstance(self._filesystem, MemoryFileSystem)

    def at(self, *names: str) -> str:
        """The URL of something in the store."""
        return "/".join([self.url.rstrip("/"), *names])

    def _path(self, name: str) -> str:
        return "/".join([self._root.rstrip("/"), name])

    def _attempt(
        self,
        name: str,
        operation: Callable[[str], Result],
        attempts: int = ATTEMPTS,
        stop: threading.Event | None = None,
    ) -> Result:
        """Of an operation on a path."""
        path = self._path(name)
        return attempt(lambda: operation(path), self.at(name), attempts=attempts, stop=stop)

    def read(self, name: str) -> bytes:
        """The whole file; FileNotFoundError if it is absent."""
        return self._attempt(name, self._filesystem.cat_file)

    def read_range(
        self,
        name: str,
        offset: int,
        size: int,
        stop: threading.Event | None = None,
        files: OpenFiles | None = None,
    ) -> bytes:
        """`size` bytes from `offset`; fewer where the file ends early (callers check a sum).

        Args:
            stop: once it is set, a read that fails is not tried again.
            files: that stay open, if they are local.
        """

        def read(path: str) -> bytes:
            if self.is_local:
                return (files or OpenFiles(0)).read_range(path, offset, size)
            try:
                return self._filesystem.cat_file(path, start=offset, end=offset + size)
            except OSError as error:
                if "range" in str(error).lower() and error.errno == errno.EINVAL:  # S3's answer 416
                    return b""
                raise

        return self._attempt(name, read, stop=stop) if size else b""

    @contextmanager
    def publish(self, name: str, *, attempts: int = ATTEMPTS) -> Iterator[BinaryIO]:
        """A file to write to that appears whole, at the end, or not at all.

        Locally: a temporary file in the same folder, fsync, rename. Remotely: a temporary local
        file and one atomic upload. If the body raises, nothing appears.

        Raises:
            UsageError: on this file system no file can appear whole.
        """
        if self.is_local:
            with published(self._path(name)) as file:
                yield file
            return
        with tempfile.NamedTemporaryFile(prefix="fluxshard-") as file:
            yield file  # type: ignore[misc]  # it has all that a BinaryIO has
            file.flush()
            self._attempt(name, lambda path: put(self._filesystem, file.name, path), attempts)

    def write(self, name: str, data: bytes) -> None:
        """`publish` of some bytes."""
        with self.publish(name) as file:
            file.write(data)

    def exists(self, name: str) -> bool:
        """Whether there is a file or folder of that name."""
        return self._attempt(name, self._filesystem.exists)

    def files(self, folder: str = "") -> list[str]:
        """Names of the files in a folder and below it, sorted; none if it does not exist."""
        names = self._found(folder)
        return [name for name in names if TEMPORARY_PREFIX not in name and name != LOCK]

    def _found(self, folder: str) -> list[str]:
        """The same, with what is no file of the dataset."""
        try:
            found = sorted(self._attempt(folder, self._filesystem.find))
        except FileNotFoundError:
            return []
        return [path[len(self._root.rstrip("/")) + 1 :] for path in found]

    def size(self, name: str) -> int:
        """Bytes of a file; FileNotFoundError if it is absent."""
        return self._attempt(name, self._filesystem.size)

    def state(self, name: str) -> tuple[int | None, str]:
        """Bytes of a file, and what changes with it: ETag, else a time; None, "" if untold.

        Raises:
            FileNotFoundError, IsADirectoryError: it is absent, or no file.
        """
        facts = self._attempt(name, self._filesystem.info)
        if facts["type"] == "directory":
            raise IsADirectoryError(self.at(name))
        known = (facts[key] for key in _VERSIONS if facts.get(key))
        return facts["size"], str(next(known, ""))

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        with suppress(FileNotFoundError):
            self._attempt(name, self._filesystem.rm_file)

    def move(self, name: str, to: str) -> None:
        """Give a file another name, if it is there; in object storage by way of a copy."""
        with suppress(FileNotFoundError):
            self._attempt(name, lambda path: move(self._filesystem, path, self._path(to)))

    def delete_folder(self, name: str) -> None:
        """Remove a folder with all that is in it, if it is there."""
        with suppress(FileNotFoundError):
            self._attempt(name, lambda path: self._filesystem.rm(path, recursive=True))

    def is_occupied(self) -> bool:
        """Whether there is anything in it, besides a lock."""
        if not self.is_local:
            return bool(self.files())
        folder = Path(self.url)
        return folder.exists() and any(entry.name != LOCK for entry in folder.iterdir())

    def check_writable(self) -> None:
        """Write, replace, read and delete a small file; a local folder is made where it is absent.

        Raises:
            UsageError: one of these does not work; the message says why.
        """
        name, data = f"{TEMPORARY_PREFIX}{uuid.uuid4().hex}", b"may this be written?"
        try:
            for _ in range(2):
                with self.publish(name, attempts=2) as file:
                    file.write(data)
            if self._attempt(name, self._filesystem.cat_file, 2) != data:
                raise OSError("what is written is not what is read")
            self._attempt(name, self._filesystem.rm_file, 2)
        except OSError as error:
            cause = error.strerror or error.__cause__ or error
            raise UsageError(
                f"{self.url} cannot be written to ({cause}): give a folder or a bucket that can"
            ) from error

    def alone(self, tell: Callable[[str], None]) -> AbstractContextManager[None]:
        """No other job writes to the folder while the body runs.

        The system lets go of a killed job's lock of a local folder. In object storage a lock object
        is renewed all the time; one that is not any more is taken over after a while.

        Args:
            tell: is told what a person should know: of waiting, or why others cannot be kept out.

        Raises:
            UsageError: another job is writing to it.
        """
        if self.is_local:
            return local_lock(self._root, tell)
        return remote_lease(self._filesystem, self._root, self.url, tell)

    def remove_unfinished(self) -> None:
        """Delete what a killed writer left. No writer may be at work in the store."""
        if self.is_local:
            for leftover in Path(self.url).rglob(f"{TEMPORARY_PREFIX}*"):
                leftover.unlink(missing_ok=True)
            return
        for name in self._found(""):
            if name.rpartition("/")[2].startswith(TEMPORARY_PREFIX):
                self.delete(name)
        self._attempt("", lambda _: abort_uploads(self._filesystem, self._root))
