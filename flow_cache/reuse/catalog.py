"""Which datasets hold the flow of which videos: one small Parquet file for each flow layer.

    CATALOG/RECIPE/LAYER-OWNER.parquet

A recipe is the digest of all that decides one field, so a lookup opens only files that can help.
A layer's file is written whole, by the build that owns it, and is called after it alone: builds on
any number of machines add to one catalog without locks and lose nothing. It keeps no flow, only
places (`flow_cache.reuse.entries`).
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import platformdirs
import pyarrow as pa

from flow_cache.reuse.entries import (
    EMPTY_ROWS,
    Entry,
    Found,
    address_of,
    by_source,
    entry_table,
    layer_rows,
    read_entry,
    read_records,
)
from shards import (
    DamagedDataset,
    NoDataset,
    Store,
    UsageError,
    read_index,
    read_manifest,
    write_table,
)
from shards.manifest import FILE


def default_catalog() -> str:
    """`$FLUXSHARD_CACHE`, or a folder in the user's cache folder."""
    return os.environ.get("FLUXSHARD_CACHE") or f"{platformdirs.user_cache_dir('fluxshard')}/flow"


def open_catalog(url: str = "") -> "Catalog":
    """The catalog at a URL; without one, the default.

    Raises:
        UsageError: the URL's protocol is unknown, or its package is not installed.
    """
    try:
        return Catalog(Store(url or default_catalog()))
    except UsageError as error:
        raise UsageError(f"flow cache {error}") from error


class Catalog:
    """The catalog in a store; it need not exist yet."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @property
    def url(self) -> str:
        """Folder or fsspec URL."""
        return self.store.url

    def add(self, dataset: Store, layer: str, recipe: str) -> None:
        """Enter a committed layer of a dataset, or bring its entry up to date.

        Raises:
            DamagedDataset: the layer's index is not what the dataset's manifest says.
        """
        committed = read_manifest(dataset).layers[layer]
        entry = Entry(
            dataset=address_of(dataset),
            layer=layer,
            spec=dict(committed.spec),
            recipe=recipe,
            shards=tuple(sorted(committed.shards.items())),
            clips=0,
            bytes=0,
        )
        try:
            known = read_entry(self.store.read(entry.file))
        except (FileNotFoundError, ValueError):
            known = None  # absent, or damaged and now mended
        if known is None or (known.dataset, known.shards) != (entry.dataset, entry.shards):
            write_table(self.store, entry.file, index_layer(entry))

    def entries(self) -> Iterator[Entry]:
        """All of them; a damaged file is left out (lookups warn of it)."""
        for file in self.store.files():
            try:
                yield read_entry(self.store.read(file))
            except (FileNotFoundError, ValueError):
                continue

    def forget(self, entry: Entry) -> None:
        """Remove an entry; the flow stays where it is."""
        self.store.delete(entry.file)

    def prune(self) -> list[Entry]:
        """Forget layers that are gone, as far as this machine can tell; returns them."""
        gone = [entry for entry in self.entries() if not entry.is_elsewhere and vanished(entry)]
        for entry in gone:
            self.forget(entry)
        return gone

    def find(self, recipe: str, sources: Iterable[str]) -> Found:
        """Where flow of some sources (SHA-256 in hex) may be that was made by a recipe."""
        wanted = np.unique(np.frombuffer(bytes.fromhex("".join(sources)), "S32"))
        entries: list[Entry] = []
        parts: list[np.ndarray] = []
        warnings: list[str] = []
        for file in self.store.files(recipe[:16]) if len(wanted) else ():
            try:
                data = self.store.read(file)
                entry, records = read_entry(data), read_records(data, wanted)
            except FileNotFoundError:
                continue  # forgotten since it was listed
            except ValueError as error:
                warnings.append(f"{self.store.at(file)} was not used: {error}")
                continue
            if not len(records) or entry.recipe != recipe:
                continue
            if not Store(entry.url).exists(FILE):
                warnings.append(
                    f"{entry.url} has vanished, and its flow with it; if it was moved, name its "
                    "new place to `fluxshard cache add`"
                )
                continue
            records["entry"] = len(entries)
            entries.append(entry)
            parts.append(records)
        return Found(entries=tuple(entries), records=by_source(parts), warnings=tuple(warnings))


def index_layer(entry: Entry) -> pa.Table:
    """The file of an entry, made from the index of its layer."""
    dataset, rows, clips, size = Store(entry.url), [EMPTY_ROWS], 0, 0
    for number, (name, digest) in enumerate(entry.shards):
        file = f"flow/{entry.layer}/{name}.parquet"
        index = read_index(dataset, file, digest, ["source_sha256", "pts", "flow_size"])
        rows.append(layer_rows(index, number))
        clips += len(index)
        size += sum(index["flow_size"].to_pylist())
    return entry_table(replace(entry, clips=clips, bytes=size), pa.concat_tables(rows))


def vanished(entry: Entry) -> bool:
    """Whether the dataset does not exist any more, or does not hold the layer."""
    try:
        return entry.layer not in read_manifest(Store(entry.url)).layers
    except NoDataset:
        return True
    except (DamagedDataset, UsageError):
        return False  # damaged or of another format, not gone
