"""A dataset opened for reading: its manifest, its clip rows, its flow layers.

Opening reads the manifest alone, which has counts and digests; rows are read by shard, and columns.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import cached_property
from itertools import islice
from os import PathLike
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from shards.manifest import (
    DamagedDataset,
    Layer,
    NoDataset,
    canonical_json,
    read_manifest,
    sha256_of,
)
from shards.schema import REJECTS
from shards.storage.range_cache import RangeCache
from shards.store import Store, UsageError

Result = TypeVar("Result")
_THREADS = 8  # that read the index of all shards; more than cores, as storage may be far away
REJECTS_FILE, INDEX = "rejects.parquet", ".parquet"
_KINDS = {
    pa.string(): "text",
    pa.int64(): "whole numbers",
    pa.float64(): "fractions",
    pa.bool_(): "true and false",
}


def read_table(store: Store, name: str) -> pa.Table:
    """A Parquet file."""
    return pq.read_table(pa.BufferReader(store.read(name)))


def read_index(store: Store, name: str, digest: str, columns: list[str] | None = None) -> pa.Table:
    """Some columns, or all, of a Parquet file whose SHA-256 is known.

    Raises:
        DamagedDataset: it is gone, or another file.
    """
    return pq.read_table(_recorded(store, name, digest), columns=columns)


def _recorded(store: Store, name: str, digest: str) -> pa.BufferReader:
    """The bytes of a file; DamagedDataset if they are not those whose SHA-256 is known."""
    try:
        data = store.read(name)
    except FileNotFoundError:
        raise DamagedDataset(f"{store.at(name)} is missing") from None
    if sha256_of(data) != digest:
        raise DamagedDataset(f"{store.at(name)} is not the file that was written")
    return pa.BufferReader(data)


def read_rejects(store: Store) -> pa.Table:
    """The rejects of a dataset, finished or not, or of a scan.

    Raises:
        NoDataset: it is neither.
        DamagedDataset: they are not what the manifest records.
    """
    try:
        digest = read_manifest(store).tables.get(REJECTS_FILE)
    except NoDataset:
        if not store.exists(REJECTS_FILE):
            raise
        digest = None
    if digest is not None:
        return read_index(store, REJECTS_FILE, digest)
    return read_table(store, REJECTS_FILE) if store.exists(REJECTS_FILE) else REJECTS.empty_table()


def check_agreement(tables: Iterable[tuple[str, pa.Table]]) -> None:
    """UsageError if a column holds one kind of value in one table and another in another.

    Args:
        tables: what to call each, and the table; columns of nulls only agree with all.
    """
    first: dict[str, tuple[str, pa.Table]] = {}
    for where, table in tables:
        for name in table.column_names:
            column = table.select([name])
            if column.schema.types[0] == pa.null():
                continue
            there, other = first.setdefault(name, (where, column))
            try:
                pa.concat_tables([other, column], promote_options="permissive")
            except pa.ArrowException:
                kinds = [t.schema.types[0] for t in (other, column)]
                raise UsageError(
                    f"column {name!r} holds {_KINDS.get(kinds[0], kinds[0])} in {there}, but "
                    f"{_KINDS.get(kinds[1], kinds[1])} in {where}: give it another name in one of "
                    "them, or values of one kind"
                ) from None


class Dataset:
    """The index of a complete dataset; reads Parquet files only, no media, and checks each.

    Attributes:
        store: where it is.
        manifest: the content of manifest.json.
        cache: keeps what is read of remote files; None: nothing does.

    Raises:
        NoDataset: there is none.
        UsageError: its build has not finished, or it holds no clips.
        DamagedDataset: the manifest is not what was written; by all that reads rows: an index file
            is not the one that the manifest records.
    """

    cache: RangeCache | None = None

    def __init__(self, where: str | PathLike[str] | Store) -> None:
        self.store = where if isinstance(where, Store) else Store(where)
        self.manifest = read_manifest(self.store)
        if self.manifest.state != "complete":
            raise UsageError(
                f"the build of {self.url} has not finished; run the same command again"
            )
        if not self.shards:
            raise UsageError(
                f"{self.url} holds no clips; rejects.parquet says why inputs were refused"
            )

    def __len__(self) -> int:
        """How many clips."""
        return sum(self.shard_rows)

    @property
    def url(self) -> str:
        """Folder or fsspec URL."""
        return self.store.url

    @cached_property
    def shards(self) -> list[str]:
        """Names, in the order of the rows."""
        return list(self.manifest.shards)

    @cached_property
    def shard_rows(self) -> tuple[int, ...]:
        """Clips in each shard."""
        return tuple(shard.clips for shard in self.manifest.shards.values())

    @cached_property
    def digest(self) -> str:
        """Identity of the clips: equal for two datasets that stream the same rows."""
        return sha256_of(canonical_json([s.sha256 for s in self.manifest.shards.values()]))

    def layer(self, name: str | None = None) -> Layer:
        """The flow layer called `name`: an estimator, or the start of a layer's name or digest.

        Raises:
            UsageError: no layer fits, or several do; the message lists what there is.
        """
        layers = list(self.manifest.layers.values())
        wanted = name or ""
        found = [
            layer
            for layer in layers
            if layer.name.startswith(wanted)
            or layer.name.rpartition("-")[2].startswith(wanted)
            or layer.spec["estimator"] == wanted
        ]
        if len(found) != 1:
            listed = ", ".join(map(str, layers)) or "none"
            problem = "is ambiguous" if found else "does not exist"
            raise UsageError(
                f"flow layer {name or '(any)'!r} {problem} in {self.url}; layers there: {listed}. "
                "Name one by its estimator or the start of its digest"
            )
        return found[0]

    @cached_property
    def clips(self) -> pa.Table:
        """All rows: `schema.CLIP_TABLE`, the user's columns and the members' places.

        They are held from then on: for datasets of some 100,000 clips. `each` holds one shard's.
        """
        return pa.concat_tables(self.each(), promote_options="permissive")

    def fields(self, layer: Layer) -> pa.Table:
        """All rows of a layer, in the order of `clips`.

        Raises:
            DamagedDataset: they are not those that the manifest records, or not of the clips.
        """
        tables = []
        for clips, fields in zip(self.each(["key"]), self.each(layer=layer), strict=True):
            self.check_fields(layer, clips, fields)
            tables.append(fields)
        return pa.concat_tables(tables, promote_options="permissive")

    def check_fields(self, layer: Layer, clips: pa.Table, fields: pa.Table) -> None:
        """DamagedDataset if rows of a layer are not those of the clips."""
        if fields["key"] != clips["key"]:
            raise DamagedDataset(
                f"layer {layer.name} does not hold the clips of {self.url}; rebuild it"
            )

    def rows(
        self, shard: str, columns: list[str] | None = None, layer: Layer | None = None
    ) -> pa.Table:
        """Some columns, or all, of the clip rows of one shard, or of its rows of a layer.

        Columns that the shard lacks, as it may of the users', are left out.

        Raises:
            DamagedDataset: they are not those that the manifest records.
        """
        file = pq.ParquetFile(self._index(shard, layer))
        return file.read(columns=columns, use_threads=False)  # which leaves out what is not there

    def each(
        self, columns: list[str] | None = None, layer: Layer | None = None
    ) -> Iterator[pa.Table]:
        """The `rows` of every shard, in order; a few are held at once."""
        return self._each(lambda shard: self.rows(shard, columns, layer))

    def schemas(self) -> Iterator[pa.Schema]:
        """The columns of every shard's clip rows; users' may differ."""
        return self._each(lambda shard: pq.read_schema(self._index(shard)))

    def _each(self, read: Callable[[str], Result]) -> Iterator[Result]:
        shards = iter(self.shards)
        with ThreadPoolExecutor(_THREADS) as pool:
            ahead = deque(pool.submit(read, shard) for shard in islice(shards, 2 * _THREADS))
            while ahead:
                result = ahead.popleft().result()
                ahead.extend(pool.submit(read, shard) for shard in islice(shards, 1))
                yield result

    def kept_in(self, cache: RangeCache) -> "Dataset":
        """The same dataset; what is read of its remote files is kept."""
        other = copy(self)
        other.cache = cache
        return other

    def place(self, folder: str, shard: str) -> tuple[Store, str]:
        """The store of a shard's files, and their name there without suffix.

        Args:
            folder: `clips` or `flow/LAYER`.
        """
        entry = self.manifest.shards[shard]
        return self._owner(entry.url), f"{folder}/{entry.name or shard}"

    def _owner(self, url: str | None) -> Store:
        return self.store if url is None else self._owners.setdefault(url, Store(url))

    @cached_property
    def _owners(self) -> dict[str, Store]:
        return {}

    def digest_of(self, shard: str, layer: Layer | None = None) -> str:
        """Of the index of a shard, of the clips or of a layer, and so of all that its tar holds."""
        return self.manifest.shards[shard].sha256 if layer is None else layer.shards.get(shard, "")

    def _index(self, shard: str, layer: Layer | None = None) -> pa.BufferReader:
        """The Parquet file of a shard."""
        folder = "clips" if layer is None else f"flow/{layer.name}"
        owner, stem = self.place(folder, shard)
        digest, cache = self.digest_of(shard, layer), None if owner.is_local else self.cache
        if cache and (kept := cache.read_whole(digest, INDEX, lambda d: sha256_of(d) == digest)):
            return pa.BufferReader(kept)
        try:
            read = _recorded(owner, f"{stem}{INDEX}", digest)
        except DamagedDataset as error:
            merge = f", then merge {self.url} again" * (owner != self.store)
            raise DamagedDataset(
                f"{error}; `fluxshard verify {owner.url}` lists all damage. Run the command that "
                f"built {owner.url} again{merge}"
            ) from error
        if cache:
            cache.write(digest, INDEX, 0, read.read_buffer().to_pybytes())
        return read
