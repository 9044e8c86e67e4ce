"""One job alone writes to a folder: a lock that the system keeps, or a lease in object storage."""

import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fsspec import AbstractFileSystem

from shards.storage.failures import StorageFailure, UsageError, attempt

LOCK = ".lock"  # held by the job that writes to a folder; no file of the dataset
RENEWAL_S = 10.0
PATIENCE_S = 45.0  # a lease that is not renewed for so long was left by a job that was killed
_LOOK_S = 1.0

Tell = Callable[[str], None]


@contextmanager
def local_lock(folder: str, tell: Tell) -> Iterator[None]:
    """The folder is this job's while the body runs; the system lets go of a killed job's lock.

    Args:
        tell: is told if others cannot be kept out: some mounts have no locks.

    Raises:
        UsageError: another job is writing to it.
    """
    path = f"{folder}/{LOCK}"
    try:
        descriptor = _lock(path)
    except BlockingIOError:
        raise _taken(folder) from None
    except (FileNotFoundError, NotADirectoryError):
        yield  # there is nothing to write to, as whoever tries will say
        return
    except OSError as error:
        tell(f"{folder} cannot be locked ({error.strerror}): run no other job on it")
        yield
        return
    try:
        yield
    finally:
        Path(path).unlink(missing_ok=True)  # while it is held: see `_lock`
        os.close(descriptor)


def _taken(folder: str, who: str = "") -> UsageError:
    return UsageError(
        f"another job is writing to {folder}{who}: wait until it has ended, then run the same "
        "command again"
    )


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


@contextmanager
def remote_lease(filesystem: AbstractFileSystem, path: str, url: str, tell: Tell) -> Iterator[None]:
    """The folder is this job's while the body runs, as far as object storage can see to that.

    A lock object is made only where there is none (a conditional put), and renewed every
    `RENEWAL_S`. One that is not renewed for `PATIENCE_S` was left by a killed job, and is taken
    over. A job that is suspended for longer than that loses its lease, and is told
    in the end. File servers without conditional puts are looked at first, which two jobs may do at
    one moment.

    Args:
        path, url: of the folder, in the file system and for messages.
        tell: is told of waiting, of a lease that was lost, and if the store cannot do any of this.

    Raises:
        UsageError: another job is writing to it.
    """
    lease = _Lease(filesystem, f"{path.rstrip('/')}/{LOCK}", url)
    try:
        lease.acquire(tell)
    except FileNotFoundError:
        yield  # there is no such bucket, as whoever tries will say
        return
    except (StorageFailure, NotImplementedError) as error:
        tell(f"{url} cannot be locked ({error}): run no other job on it")
        yield
        return
    try:
        with lease.renewed():
            yield
    finally:
        lease.release(tell)


class _Lease:
    def __init__(self, filesystem: AbstractFileSystem, path: str, url: str) -> None:
        self._filesystem, self._path, self._url = filesystem, path, url
        self._token, self._renewals = uuid.uuid4().hex, 0

    def acquire(self, tell: Tell) -> None:
        while not self._create():
            found = self._read()
            if found is None:
                continue  # released since
            tell(
                f"{self._url} is locked{_who(found)}: waiting up to {PATIENCE_S:g} s to see "
                "whether that job is alive"
            )
            if self._is_left(found):
                self._write()
                time.sleep(2 * _LOOK_S)  # another job may take it over at this moment, too
                if not self._is_ours():
                    raise _taken(self._url)
                return

    def _create(self) -> bool:
        """Whether the lock is ours; a put whose answer is lost is found to be."""
        try:
            attempt(
                lambda: self._filesystem.pipe_file(self._path, self._text(), mode="create"),
                self._url,
            )
        except FileExistsError:
            return self._is_ours()
        return True

    def _is_left(self, found: bytes) -> bool:
        """Whether it stays as it was found; UsageError if its holder renews it."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            time.sleep(min(_LOOK_S, PATIENCE_S))
            now = self._read()
            if now is None:
                return False
            if now != found:
                raise _taken(self._url, _who(now))
        return True

    @contextmanager
    def renewed(self) -> Iterator[None]:
        """Renews it on a thread while the body runs."""
        ended = threading.Event()

        def renew() -> None:
            while not ended.wait(RENEWAL_S):
                with suppress(OSError):  # out of reach: the next time, or it is lost
                    if not self._is_ours():
                        return
                    self._renewals += 1
                    self._write()

        thread = threading.Thread(target=renew, name="fluxshard-lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def release(self, tell: Tell) -> None:
        try:
            if self._is_ours():
                attempt(lambda: self._filesystem.rm_file(self._path), self._url)
            else:
                tell(
                    f"{self._url} was taken over by another job meanwhile: run `fluxshard verify "
                    f"{self._url}`"
                )
        except OSError as error:
            tell(f"the lock of {self._url} stays, the next job waits for it to run out: {error}")

    def _text(self) -> bytes:
        facts = {"host": socket.gethostname(), "process": os.getpid(), "renewals": self._renewals}
        return json.dumps({**facts, "token": self._token}).encode()

    def _write(self) -> None:
        attempt(lambda: self._filesystem.pipe_file(self._path, self._text()), self._url)

    def _read(self) -> bytes | None:
        try:
            return attempt(lambda: self._filesystem.cat_file(self._path), self._url)
        except FileNotFoundError:
            return None

    def _is_ours(self) -> bool:
        return self._token.encode() in (self._read() or b"")


def _who(lock: bytes) -> str:
    """Who holds it, as far as that can be read."""
    try:
        facts = json.loads(lock)
        return f" (process {facts['process']} on {facts['host']})"
    except (ValueError, KeyError, TypeError):
        return ""
