"""Writing one shard: first the tar, then its Parquet, whose appearance commits the shard."""

import io
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from shards.schema import Span, valid_key
from shards.store import Store

_OWNER, _MODE = "fluxshard", 0o644
BLOCK = tarfile.BLOCKSIZE


class ShardTar:
    """A WebDataset tar being written; the same samples give the same bytes."""

    def __init__(self, file: BinaryIO) -> None:
        from webdataset import TarWriter  # it loads torch, which readers of an index do without

        self._tar = TarWriter(file, user=_OWNER, group=_OWNER, mode=_MODE, mtime=0, encoder=False)

    def add(self, key: str, members: Mapping[str, bytes]) -> dict[str, Span]:
        """Append one sample, members in the order of their names, and say where they are."""
        spans = {}
        for extension in sorted(members):
            data = members[extension]
            start = self._tar.tarstream.offset
            self._tar.write({"__key__": valid_key(key), extension: data})
            spans[extension] = Span(offset=start + BLOCK, size=len(data), crc32=zlib.crc32(data))
        return spans


@contextmanager
def shard_tar(store: Store, name: str) -> Iterator[ShardTar]:
    """Open a tar that appears under its name when the body ends without an error."""
    with store.publish(name) as file:
        tar = ShardTar(file)
        try:
            yield tar
        finally:
            tar._tar.close()  # also of a tar that will not appear: it holds the file


def tar_header(name: str, size: int) -> bytes:
    """The header block of a member as `ShardTar` writes it (for verification)."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.uname, info.gname = size, _MODE, _OWNER, _OWNER
    return info.tobuf(tarfile.PAX_FORMAT)


def tar_bytes(end: int) -> int:
    """Bytes of a tar whose last member's padding ends at `end`: two zero blocks, whole records."""
    return -(-(end + 2 * BLOCK) // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


def table_bytes(table: pa.Table) -> bytes:
    """A table as a Parquet file; the same table gives the same bytes."""
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd", write_page_checksum=True)
    return file.getvalue()


def write_table(store: Store, name: str, table: pa.Table) -> None:
    """Write a Parquet file atomically."""
    store.write(name, table_bytes(table))
