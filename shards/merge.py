"""One dataset of several: an index that refers to their shards, which stay where they are."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from shards.index import Dataset, Layer, read_table, sha256, shard_place, write_manifest
from shards.schema import shard_name
from shards.store import exists, is_local, join, read_bytes
from shards.writer import write_table


def merge(urls: Sequence[str], out: str) -> list[Layer]:
    """Write a dataset at `out` whose shards are those of the datasets at `urls`, in their order.

    Nothing but the manifest and the list of rejects is written. A layer is taken in where every
    dataset has it.

    Returns:
        The layers left out, because some dataset has no layer of the same spec.

    Raises:
        ValueError: fewer than two datasets, keys that occur in several of them, or an `out` that
            is not empty.
    """
    if len(urls) < 2:
        raise ValueError("name at least two datasets and, last, the folder of the new one")
    if exists(join(out, "manifest.json")) or (is_local(out) and any(Path(out).glob("*"))):
        raise ValueError(f"{out} is not empty; give a new folder for the merged dataset")
    datasets = [Dataset(_absolute(url)) for url in urls]
    check_keys(datasets)
    manifest = merged_manifest(datasets)
    rejects = [read_table(join(dataset.url, "rejects.parquet")) for dataset in datasets]
    write_table(join(out, "rejects.parquet"), pa.concat_tables(rejects))
    digest = sha256(read_bytes(join(out, "rejects.parquet")))
    write_manifest(out, {**manifest, "tables": {"rejects.parquet": digest}})
    return [
        Layer(name=name, spec=facts["spec"])
        for name, facts in all_layers(datasets).items()
        if name not in manifest["layers"]
    ]


def _absolute(url: str) -> str:
    return str(Path(url).resolve()) if is_local(url) else url


def check_keys(datasets: Sequence[Dataset]) -> None:
    """Raise ValueError if a key occurs twice, naming the first."""
    counts = Counter(key for dataset in datasets for key in dataset.clips["key"].to_pylist())
    twice = [key for key, count in counts.items() if count > 1]
    if twice:
        listed = ", ".join(twice[:3]) + (", …" if len(twice) > 3 else "")
        raise ValueError(
            f"{len(twice)} keys occur more than once: {listed}. A key names a clip of one video; "
            "build the videos that several datasets share in one of them only"
        )


def all_layers(datasets: Sequence[Dataset]) -> dict[str, dict[str, Any]]:
    """Every layer of any of the datasets, by name; the name holds the digest of its spec."""
    return {name: facts for d in datasets for name, facts in d.manifest["layers"].items()}


def merged_manifest(datasets: Sequence[Dataset]) -> dict[str, Any]:
    """The manifest but for its tables. Settings are kept that all datasets share."""
    shards: dict[str, dict[str, Any]] = {}
    layers: dict[str, dict[str, Any]] = {
        name: {"spec": facts["spec"], "shards": {}}
        for name, facts in all_layers(datasets).items()
        if all(name in dataset.manifest["layers"] for dataset in datasets)
    }
    for dataset in datasets:
        for name, facts in dataset.manifest["shards"].items():
            url, original = shard_place(dataset.url, dataset.manifest, name)
            merged = shard_name(len(shards))
            shards[merged] = {**facts, "url": url, "name": original}
            for layer, entry in layers.items():
                entry["shards"][merged] = dataset.manifest["layers"][layer]["shards"][name]
    first, *others = (dataset.manifest["config"] for dataset in datasets)
    shared = {k: v for k, v in first.items() if all(o.get(k, ...) == v for o in others)}
    return {
        "state": "complete",
        "config": shared,
        "merged": [dataset.url for dataset in datasets],
        "shards": shards,
        "layers": layers,
    }
