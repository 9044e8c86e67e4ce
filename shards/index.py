"""A dataset opened for reading: its manifest, its clip rows, its flow layers."""

from collections.abc import Iterable, Mapping
from functools import cached_property
from os import PathLike

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
from shards.store import Store, UsageError

REJECTS_FILE = "rejects.parquet"
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
    try:
        data = store.read(name)
    except FileNotFoundError:
        raise DamagedDataset(f"{store.at(name)} is missing") from None
    if sha256_of(data) != digest:
        raise DamagedDataset(f"{store.at(name)} is not the file that was written")
    return pq.read_table(pa.BufferReader(data), columns=columns)


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
    """The index of a complete dataset; reads Parquet files only, no media, and checks them.

    Attributes:
        store: where it is.
        manifest: the content of manifest.json.
        clips: one row per clip, `schema.CLIP_TABLE`, the user's columns and the members' places.

    Raises:
        NoDataset: there is none.
        UsageError: its build has not finished, or it holds no clips.
        DamagedDataset: an index file is not the one that the manifest records.
    """

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
        digests = {name: shard.sha256 for name, shard in self.manifest.shards.items()}
        self.clips = self._concatenate("clips", digests)

    @property
    def url(self) -> str:
        """Folder or fsspec URL."""
        return self.store.url

    @property
    def shards(self) -> list[str]:
        """Names, in the order of the rows."""
        return list(self.manifest.shards)

    @property
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

    def fields(self, layer: Layer) -> pa.Table:
        """The layer's rows, in the order of `clips`.

        Raises:
            DamagedDataset: they are not those that the manifest records, or not of the clips.
        """
        table = self._concatenate(f"flow/{layer.name}", layer.shards)
        if table["key"] != self.clips["key"]:
            raise DamagedDataset(
                f"layer {layer.name} does not hold the clips of {self.url}; rebuild it"
            )
        return table

    def rows(self, shard: str) -> pa.Table:
        """The clip rows of one shard.

        Raises:
            DamagedDataset: they are not those that the manifest records.
        """
        return self._index("clips", shard, self.manifest.shards[shard].sha256)

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

    def _concatenate(self, folder: str, digests: Mapping[str, str]) -> pa.Table:
        tables = [self._index(folder, shard, digests.get(shard, "")) for shard in self.shards]
        return pa.concat_tables(tables, promote_options="permissive")

    def _index(self, folder: str, shard: str, digest: str) -> pa.Table:
        owner, stem = self.place(folder, shard)
        try:
            return read_index(owner, f"{stem}.parquet", digest)
        except DamagedDataset as error:
            merge = f", then merge {self.url} again" * (owner != self.store)
            raise DamagedDataset(
                f"{error}; `fluxshard verify {owner.url}` lists all damage. Run the command that "
                f"built {owner.url} again{merge}"
            ) from error
