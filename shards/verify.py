"""Checking every byte of a dataset against its index."""

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from shards.index import read_table
from shards.manifest import FILE, DamagedDataset, Manifest, read_manifest, sha256_of
from shards.schema import CLIP_MEMBERS, FLOW_MEMBERS
from shards.store import Store
from shards.writer import BLOCK, tar_bytes, tar_header

_MISSING = "the file is missing"
_DIFFERS = "the content differs from the manifest's digest"


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Something that is not as it was written: `member` is None where a whole file is meant."""

    file: str
    member: str | None
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.member + ': ' if self.member else ''}{self.what}"


def verify(store: Store) -> Iterator[Problem]:
    """All problems of a dataset, in the order of its files; none if it is intact.

    Memory is that of one shard. Raises NoDataset if there is no dataset at all.
    """
    try:
        manifest = read_manifest(store)
    except DamagedDataset as error:
        yield Problem(file=FILE, member=None, what=str(error))
        return
    if manifest.state != "complete":
        yield Problem(file=FILE, member=None, what="the build has not finished")
        return
    for name, digest in manifest.tables.items():
        yield from _check_file(store, name, digest)
    clip_digests = {name: shard.sha256 for name, shard in manifest.shards.items()}
    yield from _check_shards(store, manifest, "clips", clip_digests, CLIP_MEMBERS)
    for layer in manifest.layers.values():
        yield from _check_shards(store, manifest, f"flow/{layer.name}", layer.shards, FLOW_MEMBERS)


def _check_shards(
    store: Store,
    manifest: Manifest,
    folder: str,
    digests: Mapping[str, str],
    members: Sequence[str],
) -> Iterator[Problem]:
    for shard, digest in digests.items():
        entry = manifest.shards[shard]
        owner = store if entry.url is None else Store(entry.url)
        stem = f"{folder}/{entry.name or shard}"
        for problem in check_shard(owner, stem, digest, members):
            yield problem if owner == store else replace(problem, file=owner.at(problem.file))


def check_shard(store: Store, stem: str, digest: str, members: Sequence[str]) -> Iterator[Problem]:
    """All problems of one shard's Parquet and tar.

    Args:
        store: of the dataset that owns it.
        stem: `clips/NAME` or `flow/LAYER/NAME`.
        digest: SHA-256 of the Parquet.
        members: of each clip.
    """
    damaged = list(_check_file(store, f"{stem}.parquet", digest))
    yield from damaged or _check_tar(store, stem, members)


def check_commit(store: Store, stem: str, digest: str | None = None) -> Problem | None:
    """What a glance at one shard's files finds: a Parquet or a tar that cannot be the one written.

    Reads the Parquet and the length of the tar, whose bytes are `check_shard`'s.

    Args:
        stem: `clips/NAME` or `flow/LAYER/NAME`.
        digest: SHA-256 of the Parquet, if one is recorded.
    """
    file, tar = f"{stem}.parquet", f"{stem}.tar"
    try:
        data = store.read(file)
        if digest not in (None, sha256_of(data)):
            return Problem(file=file, member=None, what=_DIFFERS)
        expected = tar_bytes(_last_end(data, stem))
    except FileNotFoundError:
        return Problem(file=file, member=None, what=_MISSING)
    except (pa.ArrowException, KeyError) as error:
        return Problem(file=file, member=None, what=f"it cannot be read: {error}")
    try:
        return _wrong_length(tar, store.size(tar), expected)
    except FileNotFoundError:
        return Problem(file=tar, member=None, what=_MISSING)


def _last_end(parquet: bytes, stem: str) -> int:
    """Where the last member of a shard's tar ends, padding included."""
    member = (CLIP_MEMBERS if stem.startswith("clips/") else FLOW_MEMBERS)[-1]
    columns = [f"{member}_offset", f"{member}_size"]
    last = pq.read_table(pa.BufferReader(parquet), columns=columns).to_pylist()[-1:]
    return sum(row[columns[0]] + _padded(row[columns[1]]) for row in last)


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _wrong_length(tar: str, size: int, expected: int) -> Problem | None:
    what = f"the file has {size} bytes, {expected} were written"
    return None if size == expected else Problem(file=tar, member=None, what=what)


def _check_file(store: Store, name: str, digest: str) -> Iterator[Problem]:
    try:
        data = store.read(name)
    except FileNotFoundError:
        yield Problem(file=name, member=None, what=_MISSING)
        return
    if sha256_of(data) != digest:
        yield Problem(file=name, member=None, what=_DIFFERS)


def _check_tar(store: Store, stem: str, members: Sequence[str]) -> Iterator[Problem]:
    file = f"{stem}.tar"
    try:
        data = memoryview(store.read(file))
    except FileNotFoundError:
        yield Problem(file=file, member=None, what=_MISSING)
        return
    table = read_table(store, f"{stem}.parquet")
    end = 0
    for row in table.to_pylist():
        for member in members:
            name = f"{row['key']}.{member}"
            offset, length = row[f"{member}_offset"], row[f"{member}_size"]
            end = offset + _padded(length)
            if bytes(data[offset - BLOCK : offset]) != tar_header(name, length):
                yield Problem(file=file, member=name, what="the tar header is damaged")
            if zlib.crc32(data[offset : offset + length]) != row[f"{member}_crc32"]:
                yield Problem(file=file, member=name, what="the data differs from its checksum")
                yield from _damaged_fields(data, row, file, name)
            if any(data[offset + length : end]):
                yield Problem(file=file, member=name, what="the padding is not zero")
    if problem := _wrong_length(file, len(data), tar_bytes(end)):
        yield problem
    if any(data[end:]):
        yield Problem(file=file, member=None, what="the end of the archive is damaged")


def _damaged_fields(
    data: memoryview, row: dict[str, Any], file: str, name: str
) -> Iterable[Problem]:
    """Which flow fields of a damaged member are affected."""
    for pair in zip(
        *(row.get(f"pair_{end}", ()) for end in ("source", "target")),
        *(row.get(f"field_{what}", ()) for what in ("offset", "size", "crc32")),
        strict=True,
    ):
        source, target, offset, size, crc32 = pair
        if zlib.crc32(data[offset : offset + size]) != crc32:
            what = f"flow field {source}→{target} differs from its checksum"
            yield Problem(file=file, member=name, what=what)
