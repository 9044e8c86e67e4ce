"""One dataset of several: an index that refers to their shards, which stay where they are."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from shards.index import REJECTS_FILE, Dataset, check_agreement, read_table
from shards.manifest import FILE, Layer, Manifest, Shard, all_makers, sha256_of, write_manifest
from shards.schema import shard_name
from shards.store import Store, UsageError
from shards.writer import write_table


def merge(parts: Sequence[Store], out: Store) -> list[Layer]:
    """Write a dataset whose shards are those of other datasets, in their order.

    Nothing but the manifest and the list of rejects is written. A layer is taken in where every
    dataset has it. If all datasets lie beside the new one, or below its parent folder, they are
    referred to from there, so that they can be moved together; else by absolute paths and URLs.

    Returns:
        The layers left out, because some dataset has no layer of the same spec.

    Raises:
        UsageError: fewer than two datasets, keys that occur in several of them, a column that holds
            text in one and numbers in another, or an `out` that is not empty.
    """
    if len(parts) < 2:
        raise UsageError("name at least two datasets and, last, the folder of the new one")
    if out.is_occupied() or out.exists(FILE):
        raise UsageError(f"{out.url} is not empty; give a new folder for the merged dataset")
    datasets = [Dataset(_absolute(part)) for part in parts]
    check_keys(datasets)
    check_agreement((d.url, schema.empty_table()) for d in datasets for schema in d.schemas())
    manifest = merged_manifest(datasets)
    rejects = [read_table(dataset.store, REJECTS_FILE) for dataset in datasets]
    write_table(out, REJECTS_FILE, pa.concat_tables(rejects))
    tables = {REJECTS_FILE: sha256_of(out.read(REJECTS_FILE))}
    write_manifest(out, _relative(replace(manifest, tables=tables), out))
    return [layer for name, layer in all_layers(datasets).items() if name not in manifest.layers]


def _absolute(store: Store) -> Store:
    """Under a URL that means the same wherever it is read from."""
    return Store(Path(store.url).resolve()) if store.is_local else store


def _relative(manifest: Manifest, out: Store) -> Manifest:
    """The manifest with its URLs as seen from `out`, if all datasets lie below its parent."""
    here = Path(out.url).resolve()
    urls = [*manifest.merged, *(shard.url for shard in manifest.shards.values() if shard.url)]
    if not out.is_local or not all(here.parent in Path(url).parents for url in urls):
        return manifest
    return manifest.referring(lambda url: os.path.relpath(url, here))


def check_keys(datasets: Sequence[Dataset]) -> None:
    """Raise UsageError if a key occurs twice, naming the first.

    Hashes are compared, eight bytes a clip; keys are held only where two of them agree.
    """
    hashes = np.sort(np.concatenate([_hashes(keys) for keys in _keys(datasets)]))
    twice = {*hashes[1:][hashes[1:] == hashes[:-1]].tolist()}
    if not twice:
        return
    counts = Counter(key for keys in _keys(datasets) for key in keys if hash(key) in twice)
    listed = [key for key, count in counts.items() if count > 1]
    if listed:
        some = ", ".join(listed[:3]) + (", …" if len(listed) > 3 else "")
        raise UsageError(
            f"{len(listed)} keys occur more than once: {some}. A key names a clip of one video; "
            "build the videos that several datasets share in one of them only"
        )


def _keys(datasets: Sequence[Dataset]) -> Iterator[list[str]]:
    """Of each shard."""
    return (table["key"].to_pylist() for dataset in datasets for table in dataset.each(["key"]))


def _hashes(keys: Sequence[str]) -> Int64[np.ndarray, " n"]:
    return np.fromiter(map(hash, keys), np.int64, len(keys))


def all_layers(datasets: Sequence[Dataset]) -> dict[str, Layer]:
    """Every layer of any of the datasets, by name; the name holds the digest of its spec."""
    return {name: layer for d in datasets for name, layer in d.manifest.layers.items()}


def merged_manifest(datasets: Sequence[Dataset]) -> Manifest:
    """The manifest but for its tables. Settings are kept that all datasets share."""
    shards: dict[str, Shard] = {}
    digests: dict[str, dict[str, str]] = {
        name: {}
        for name in all_layers(datasets)
        if all(name in dataset.manifest.layers for dataset in datasets)
    }
    for dataset in datasets:
        for name, shard in dataset.manifest.shards.items():
            merged = shard_name(len(shards))
            owner = shard if shard.url else replace(shard, url=dataset.url, name=name)
            shards[merged] = owner
            for layer, found in digests.items():
                found[merged] = dataset.manifest.layers[layer].shards[name]
    first, *others = (dataset.manifest.config for dataset in datasets)
    layers = all_layers(datasets)
    made_by = all_makers(dataset.manifest.made_by for dataset in datasets)
    return Manifest(
        state="complete",
        config={k: v for k, v in first.items() if all(o.get(k, ...) == v for o in others)},
        merged=tuple(dataset.url for dataset in datasets),
        shards=shards,
        layers={name: replace(layers[name], shards=found) for name, found in digests.items()},
        made_by={name: m for name, m in made_by.items() if name == "clips" or name in digests},
    )
