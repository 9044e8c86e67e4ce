"""What a dataset holds, in figures."""

from collections import Counter
from typing import Any

import pyarrow.compute as pc

from shards import Dataset, Layer, read_table
from shards.schema import CLIP_MEMBERS


def summarise(dataset: Dataset) -> dict[str, Any]:
    """Counts, seconds of video, and bytes of media and of each flow layer, as JSON values."""
    clips = dataset.clips
    rates = clips["fps_num"].to_numpy() / clips["fps_den"].to_numpy()
    return {
        "clips": len(clips),
        "videos": len(clips["source_sha256"].unique()),
        "seconds": round(float((clips["frames"].to_numpy() / rates).sum()), 3),
        "shards": len(dataset.shards),
        "rejects": _rejects(dataset),
        "clip_bytes": sum(_total(clips[f"{member}_size"]) for member in CLIP_MEMBERS),
        "layers": {
            layer.name: _layer(dataset, layer) for layer in dataset.manifest.layers.values()
        },
        "config": dict(dataset.manifest.config),
        "digest": dataset.digest,
    }


def _rejects(dataset: Dataset) -> dict[str, int]:
    """How many inputs and clips were refused, by reason."""
    reasons = read_table(dataset.store, "rejects.parquet")["reason"].to_pylist()
    return dict(sorted(Counter(reasons).items()))


def _layer(dataset: Dataset, layer: Layer) -> dict[str, Any]:
    table = dataset.fields(layer)
    return {
        "estimator": layer.spec["estimator"],
        "frames_from": layer.spec["frames_from"],
        "levels": layer.spec["levels"],
        "fields": _total(pc.list_value_length(table["pair_source"])),
        "bytes": _total(table["flow_size"]),
    }


def _total(column: Any) -> int:
    return pc.sum(column).as_py() or 0
