"""What a dataset holds, in figures."""

from collections import Counter
from typing import Any

import pyarrow.compute as pc

from shards import Dataset, Layer, read_table
from shards.schema import CLIP_MEMBERS


def summarise(dataset: Dataset) -> dict[str, Any]:
    """Counts, seconds of video, and bytes of media and of each flow layer, as JSON values.

    Memory is that of the digests of the videos and of a few shards' rows.
    """
    videos: set[str] = set()
    seconds, size = 0.0, 0
    sizes = [f"{member}_size" for member in CLIP_MEMBERS]
    for clips in dataset.each(["source_sha256", "frames", "fps_num", "fps_den", *sizes]):
        videos |= {*clips["source_sha256"].unique().to_pylist()}
        rates = clips["fps_num"].to_numpy() / clips["fps_den"].to_numpy()
        seconds += float((clips["frames"].to_numpy() / rates).sum())
        size += sum(_total(clips[name]) for name in sizes)
    return {
        "clips": len(dataset),
        "videos": len(videos),
        "seconds": round(seconds, 3),
        "shards": len(dataset.shards),
        "rejects": _rejects(dataset),
        "clip_bytes": size,
        "layers": {
            layer.name: _layer(dataset, layer) for layer in dataset.manifest.layers.values()
        },
        "made_by": dataset.manifest.made_by,
        "config": dict(dataset.manifest.config),
        "digest": dataset.digest,
    }


def _rejects(dataset: Dataset) -> dict[str, int]:
    """How many inputs and clips were refused, by reason."""
    reasons = read_table(dataset.store, "rejects.parquet")["reason"].to_pylist()
    return dict(sorted(Counter(reasons).items()))


def _layer(dataset: Dataset, layer: Layer) -> dict[str, Any]:
    fields = size = 0
    for table in dataset.each(["pair_source", "flow_size"], layer):
        fields += _total(pc.list_value_length(table["pair_source"]))
        size += _total(table["flow_size"])
    return {
        "estimator": layer.spec["estimator"],
        "frames_from": layer.spec["frames_from"],
        "levels": layer.spec["levels"],
        "fields": fields,
        "bytes": size,
    }


def _total(column: Any) -> int:
    return pc.sum(column).as_py() or 0
