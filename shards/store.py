"""A folder of files, local or remote: atomic publishing, byte ranges, retries."""

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import fsspec
import tenacity

TEMPORARY_PREFIX = ".unfinished-"
LOCK = ".lock"  # held by the job that writes to a local folder; no file of the dataset

# What trying again will not mend, and the numbers of errors that it may. Remote file systems
# often give no number at all.
_SETTLED = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
_PASSING = {None, errno.EIO, errno.ESTALE, errno.EAGAIN, errno.ETIMEDOUT, errno.EPIPE}
_PASSING |= {errno.ECONNRESET, errno.ECONNREFUSED, errno.ECONNABORTED, errno.EHOSTUNREACH}


class UsageError(ValueError):
    """What the user asks for cannot be: the message names the value, the rule and the remedy.

    The command line shows it as one sentence and exits with 2. Any other exception is a fault of
    ours or of the machine, and shows as such.
    """


def is_passing(error: BaseException) -> bool:
    """Whether an error may be gone at the next attempt: a connection lost, a mount gone stale."""
    if not isinstance(error, OSError) or isinstance(error, _SETTLED):
        return False
    return error.errno in _PASSING


_again = tenacity.retry(
    retry=tenacity.retry_if_exception(is_passing),
    stop=tenacity.stop_after_attempt(5),
    wait=tenacity.wait_exponential_jitter(multiplier=0.1, max=5),
    reraise=True,
)


class Store:
    """A folder and all below it; the file system is opened once. Names are relative, with `/`.

    Operations that fail for a passing reason are tried up to five times, over a few seconds. A
    store can be pickled, and equals another of the same URL.

    Attributes:
        url: a local path or an fsspec URL (`s3://…`, `gs://…`, `memory://…`).

    Raises:
        UsageError: the URL's protocol is unknown, or its package is not installed.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self.url = os.fspath(url)
        try:
            self._filesystem, self._root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise UsageError(f"{url}: {error}") from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Store) and self.url == other.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def __reduce__(self) -> tuple[type["Store"], tuple[str]]:
        return Store, (self.url,)

    @property
    def is_local(self) -> bool:
        """Whether it is a folder of this machine, named by its path."""
        return "://" not in self.url

    def at(self, *names: str) -> str:
        """The URL of something in the store."""
        return "/".join([self.url.rstrip("/"), *names])

    def _path(self, name: str) -> str:
        return "/".join([self._root.rstrip("/"), name])

    @_again
    def read(self, name: str) -> bytes:
        """The whole file; FileNotFoundError if it is absent."""
        return self._filesystem.cat_file(self._path(name))

    @_again
    def read_range(self, name: str, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`; fewer where the file ends early (callers check a sum)."""
        if self.is_local:
            with open(self._path(name), "rb") as file:
                return os.pread(file.fileno(), size, offset)
        return self._filesystem.cat_file(self._path(name), start=offset, end=offset + size)

    @contextmanager
    def publish(self, name: str) -> Iterator[BinaryIO]:
        """A file to write to that appears whole, at the end, or not at all.

        Locally: a temporary file in the same folder, fsync, rename. Remotely: a temporary local
        file and one atomic upload. If the body raises, nothing appears.
        """
        folder = Path(self._path(name)).parent if self.is_local else None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            if folder is None:
                self._upload(temporary, self._path(name))
            else:
                Path(temporary).chmod(0o644)  # mkstemp makes private files
                Path(temporary).replace(self._path(name))
                _sync_folder(folder)
        finally:
            Path(temporary).unlink(missing_ok=True)

    @_again
    def _upload(self, file: str, path: str) -> None:
        self._filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._filesystem.put_file(file, path)

    def write(self, name: str, data: bytes) -> None:
        """`publish` of some bytes."""
        with self.publish(name) as file:
            file.write(data)

    @_again
    def exists(self, name: str) -> bool:
        """Whether there is a file or folder of that name."""
        return self._filesystem.exists(self._path(name))

    def files(self, folder: str = "") -> list[str]:
        """Names of the files in a folder and below it, sorted; none if it does not exist."""
        names = self._found(folder)
        return [name for name in names if TEMPORARY_PREFIX not in name and name != LOCK]

    @_again
    def _found(self, folder: str) -> list[str]:
        """The same, with what is no file of the dataset."""
        self._filesystem.invalidate_cache()  # others may have written since it was last listed
        try:
            found = sorted(self._filesystem.find(self._path(folder)))
        except FileNotFoundError:
            return []
        return [path[len(self._root.rstrip("/")) + 1 :] for path in found]

    @_again
    def size(self, name: str) -> int:
        """Bytes of a file; FileNotFoundError if it is absent."""
        return self._filesystem.size(self._path(name))

    @_again
    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        with suppress(FileNotFoundError):
            self._filesystem.rm_file(self._path(name))

    def is_occupied(self) -> bool:
        """Whether a local folder has anything in it; a remote one is never called occupied."""
        if not self.is_local or not Path(self.url).exists():
            return False
        return any(entry.name != LOCK for entry in Path(self.url).iterdir())

    @contextmanager
    def alone(self) -> Iterator[str | None]:
        """No other job writes to the folder while the body runs.

        The system lets go of the lock of a killed process. The value is None, or a sentence that
        says why others cannot be kept out: object storage has no locks, some mounts neither.

        Raises:
            UsageError: another job is writing to it.
        """
        if not self.is_local:
            yield None
            return
        try:
            descriptor = _lock(self._path(LOCK))
        except BlockingIOError:
            raise UsageError(
                f"another job is writing to {self.url}: wait until it has ended, then run the "
                "same command again"
            ) from None
        except (FileNotFoundError, NotADirectoryError):
            yield None  # there is nothing to write to, as whoever tries will say
            return
        except OSError as error:
            yield f"{self.url} cannot be locked ({error.strerror}): run no other job on it"
            return
        try:
            yield None
        finally:
            Path(self._path(LOCK)).unlink(missing_ok=True)  # while it is held: see `_lock`
            os.close(descriptor)

    def remove_unfinished(self) -> None:
        """Delete what a killed writer left. No writer may be at work in the store."""
        if self.is_local:
            for leftover in Path(self.url).rglob(f"{TEMPORARY_PREFIX}*"):
                leftover.unlink()
            return
        for name in self._found(""):
            if name.rpartition("/")[2].startswith(TEMPORARY_PREFIX):
                self.delete(name)


def _lock(path: str) -> int:
    """Lock a file, made where it is absent; returns its descriptor. BlockingIOError: it is held.

    Whoever holds the lock deletes the file in the end, so what is locked may have no name any more.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
