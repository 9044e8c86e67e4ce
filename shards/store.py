"""Bytes in and out, local or remote: atomic publishing and reads of byte ranges.

Paths are local paths or fsspec URLs (`s3://…`, `gs://…`, `memory://…`).
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import fsspec

TEMPORARY_PREFIX = ".unfinished-"


class UsageError(ValueError):
    """What the user asks for cannot be: the message names the value, the rule and the remedy.

    The command line shows it as one sentence and exits with 2. Any other exception is a fault of
    ours or of the machine, and shows as such.
    """


def is_local(url: str) -> bool:
    return "://" not in url


def join(folder: str, *names: str) -> str:
    return "/".join([folder.rstrip("/"), *names])


@contextmanager
def publish(url: str) -> Iterator[BinaryIO]:
    """A file to write to that appears under `url` whole, at the end, or not at all.

    Locally: a temporary file in the same folder, fsync, rename. Remotely: a temporary local file
    and one atomic upload. If the body raises, nothing appears.
    """
    target = Path(url) if is_local(url) else None
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(
        prefix=TEMPORARY_PREFIX, dir=None if target is None else target.parent
    )
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if target is None:
            filesystem, path = fsspec.core.url_to_fs(url)
            filesystem.makedirs(filesystem._parent(path), exist_ok=True)
            filesystem.put_file(name, path)
        else:
            temporary.chmod(0o644)  # mkstemp makes private files
            temporary.replace(target)
            _sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_bytes(url: str, data: bytes) -> None:
    with publish(url) as file:
        file.write(data)


def read_bytes(url: str) -> bytes:
    """The whole file; FileNotFoundError if it is absent."""
    with fsspec.open(url, "rb") as file:
        return file.read()


def exists(url: str) -> bool:
    """Whether there is a file or folder at `url`."""
    filesystem, path = fsspec.core.url_to_fs(url)
    return filesystem.exists(path)


def list_files(folder: str) -> list[str]:
    """URLs of the files in a folder tree, sorted; none if it does not exist."""
    filesystem, path = fsspec.core.url_to_fs(folder)
    filesystem.invalidate_cache()  # others may have written since it was last listed
    try:
        found = sorted(filesystem.find(path))
    except FileNotFoundError:
        return []
    names = [name for name in found if TEMPORARY_PREFIX not in name]
    return names if is_local(folder) else [filesystem.unstrip_protocol(name) for name in names]


def delete(url: str) -> None:
    """Remove a file, if it is there."""
    filesystem, path = fsspec.core.url_to_fs(url)
    with suppress(FileNotFoundError):
        filesystem.rm_file(path)


def read_range(url: str, offset: int, size: int) -> bytes:
    """`size` bytes from `offset`; fewer where the file ends early (callers check a checksum)."""
    if is_local(url):
        with open(url, "rb") as file:
            return os.pread(file.fileno(), size, offset)
    filesystem, path = fsspec.core.url_to_fs(url)
    return filesystem.cat_file(path, start=offset, end=offset + size)


def remove_unfinished(folder: str) -> None:
    """Delete what a killed writer left in a local folder tree. No writer may be at work in it."""
    if is_local(folder):
        for leftover in Path(folder).rglob(f"{TEMPORARY_PREFIX}*"):
            leftover.unlink()
