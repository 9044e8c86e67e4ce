"""Index files of another reader, for the clips and every flow layer of a dataset."""

from collections.abc import Iterator
from typing import Literal

import pyarrow as pa

from shards.foreign.energon import write_meta
from shards.foreign.formats import dali_index, energon_index, webshart_index
from shards.foreign.samples import Sample, samples_of
from shards.index import Dataset
from shards.manifest import Layer, canonical_json, sha256_of
from shards.schema import CLIP_MEMBERS, FLOW_MEMBERS, member_columns
from shards.store import UsageError
from shards.writer import tar_bytes

Reader = Literal["dali", "energon", "webshart"]
SUFFIXES: dict[Reader, str] = {"dali": ".idx", "energon": ".tar.idx", "webshart": ".json"}


def write_index(dataset: Dataset, reader: Reader) -> list[str]:
    """Write what a reader needs beside the tars of the clips and of every flow layer.

    The files depend on the dataset's index alone; no tar is read.

    Returns:
        The names of the files in the dataset.

    Raises:
        UsageError: a merged dataset, whose tars lie in others.
        DamagedDataset: the index is not what the manifest records.
    """
    if dataset.manifest.merged:
        raise UsageError(
            f"{dataset.url} is merged, its tars lie in other datasets: write the index of each of "
            f"{', '.join(dataset.manifest.merged)}"
        )
    return [
        name
        for layer in (None, *dataset.manifest.layers.values())
        for name in _write_folder(dataset, layer, reader)
    ]


def _write_folder(dataset: Dataset, layer: Layer | None, reader: Reader) -> Iterator[str]:
    folder, store = "clips" if layer is None else f"flow/{layer.name}", dataset.store
    counts = dict(zip(dataset.shards, dataset.shard_rows, strict=True))
    shards = {shard: count for shard, count in counts.items() if count}  # none takes an empty tar
    for shard in shards:
        name = f"{folder}/{shard}{SUFFIXES[reader]}"
        store.write(name, _beside_tar(dataset, shard, layer, reader))
        yield name
    if reader == "energon":
        tars = {f"{shard}.tar": count for shard, count in shards.items()}
        samples = (_read(dataset, shard, layer)[1] for shard in shards)
        yield from write_meta(store, folder, tars, samples, of=_digest(dataset, folder))


def _beside_tar(dataset: Dataset, shard: str, layer: Layer | None, reader: Reader) -> bytes:
    """The file of one tar."""
    table, samples = _read(dataset, shard, layer)
    match reader:
        case "dali":
            return dali_index(samples)
        case "energon":
            return energon_index(samples)
        case "webshart":
            size = tar_bytes(samples[-1].end)
            return webshart_index(samples, table.to_pylist(), f"{shard}.tar", size)


def _read(dataset: Dataset, shard: str, layer: Layer | None) -> tuple[pa.Table, list[Sample]]:
    """What the files of a tar are made of: its rows in the index, and its samples."""
    parts = CLIP_MEMBERS if layer is None else FLOW_MEMBERS
    looks = ("height", "width", "caption") if layer is None else ()
    table = dataset.rows(shard, ["key", *member_columns(parts).names, *looks], layer)
    return table, samples_of(table, parts)


def _digest(dataset: Dataset, folder: str) -> str:
    """Of all samples in a folder of tars."""
    digests = dataset.manifest.digests
    return sha256_of(
        canonical_json({name: digests[name] for name in digests if name.startswith(f"{folder}/")})
    )
