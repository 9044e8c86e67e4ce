"""File systems by URL, and how a file appears whole on each."""

import errno
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from shards.storage.failures import UsageError, is_passing
from shards.storage.web import WebFileSystem

TEMPORARY_PREFIX = ".unfinished-"
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
# Where what is put appears whole or not at all.
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oss", "memory"}
_UNKNOWN_HERE = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM, errno.EACCES}


def open_filesystem(url: str) -> tuple[AbstractFileSystem, str]:
    """The file system of a URL or local path, and the path there.

    Listings are never kept, as others write meanwhile, and the tries of a library are not
    multiplied with ours.

    Raises:
        UsageError: the URL's protocol is unknown, or its package is not installed.
    """
    protocol, separator, _ = url.partition("://")
    if not separator:
        return LocalFileSystem(), os.path.abspath(url)
    if "::" in url:
        raise UsageError(f"{url}: chained URLs are not supported: name the store itself")
    if protocol in ("http", "https"):
        return WebFileSystem(), url
    try:
        filesystem, root = fsspec.core.url_to_fs(url, **_options(protocol))
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        remedy = f"pip install 'fluxshard[{extra}]'" if extra else str(error)
        raise UsageError(f"{url}: what opens {protocol}:// is not installed: {remedy}") from error
    except ValueError as error:
        raise UsageError(f"{url}: {error}") from error
    if hasattr(filesystem, "retries"):  # s3fs and gcsfs
        filesystem.retries = 1
    return filesystem, root


def _options(protocol: str) -> dict[str, Any]:
    if protocol not in ("s3", "s3a"):
        return {"use_listings_cache": False}
    given = fsspec.config.conf.get(protocol, {}).get("config_kwargs", {})
    return {
        "use_listings_cache": False,
        "config_kwargs": {"retries": {"total_max_attempts": 1}, **given},
    }


def put(filesystem: AbstractFileSystem, file: str, path: str) -> None:
    """Put a local file under a path, where it appears whole or not at all.

    Object storage does so by itself, also when a file goes up in parts. Elsewhere it goes under a
    temporary name first and is renamed by the server: how atomic that is, is the server's affair.

    Raises:
        UsageError: the file system can do neither.
    """
    if isinstance(filesystem, MemoryFileSystem):
        filesystem.pipe_file(path, Path(file).read_bytes())  # `put_file` shows what it writes
    elif is_object_store(filesystem):
        _put_object(filesystem, file, path)
    elif type(filesystem).mv is AbstractFileSystem.mv:  # which copies and deletes
        raise UsageError(
            f"{filesystem.unstrip_protocol(path)}: on this file system a file cannot appear whole: "
            "write to a local folder or to object storage"
        )
    else:
        folder = path.rpartition("/")[0]
        temporary = f"{folder}/{TEMPORARY_PREFIX}{uuid.uuid4().hex}"
        filesystem.makedirs(folder, exist_ok=True)
        filesystem.put_file(file, temporary)
        filesystem.mv(temporary, path)


def move(filesystem: AbstractFileSystem, path: str, target: str) -> None:
    """Give a file another path, in a folder that need not be there."""
    if is_object_store(filesystem):
        filesystem.cp_file(path, target)
        filesystem.rm_file(path)
    else:
        filesystem.makedirs(target.rpartition("/")[0], exist_ok=True)
        filesystem.mv(path, target)


def is_object_store(filesystem: AbstractFileSystem) -> bool:
    """Whether what is put appears whole, and folders need not be made."""
    protocol = filesystem.protocol
    return not _OBJECT_STORES.isdisjoint({protocol} if isinstance(protocol, str) else protocol)


def _put_object(filesystem: AbstractFileSystem, file: str, path: str) -> None:
    try:
        filesystem.put_file(file, path)
    except FileNotFoundError as error:
        # s3fs tells the upload in parts off, of which nothing is left if only the answer to its
        # end was lost; and says that instead of what went wrong.
        cause = error.__context__
        while cause is not None:
            if is_passing(cause):
                raise cause from None
            cause = cause.__context__
        raise


def abort_uploads(filesystem: AbstractFileSystem, root: str) -> None:
    """Drop what killed writers left of uploads in parts: S3 keeps it, unseen, and bills it."""
    if not hasattr(filesystem, "call_s3"):
        return
    bucket, _, folder = root.rstrip("/").partition("/")
    found = filesystem.call_s3(
        "list_multipart_uploads", Bucket=bucket, Prefix=folder and f"{folder}/"
    )
    for upload in found.get("Uploads", ()):
        filesystem.call_s3(
            "abort_multipart_upload", Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"]
        )


@contextmanager
def published(path: str) -> Iterator[BinaryIO]:
    """A local file that appears whole: a temporary one in the same folder, fsync, rename.

    What some mounts (FUSE, SMB) cannot do, permissions and the sync of a folder, is left out there.
    """
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with _where_possible():
            os.chmod(temporary, 0o644)  # mkstemp makes private files
        os.replace(temporary, path)
        sync_folder(folder)
    finally:
        Path(temporary).unlink(missing_ok=True)


@contextmanager
def _where_possible() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _UNKNOWN_HERE:
            raise


def sync_folder(folder: str) -> None:
    """Make a rename in a folder survive a power cut, where the mount can."""
    with _where_possible():
        _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
