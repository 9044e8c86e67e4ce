"""What a dataset holds, in figures."""

from collections import Counter
from itertools import product
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
            layer.name: _layer(dataset, layer, size) for layer in dataset.manifest.layers.values()
        },
        "made_by": dataset.manifest.made_by,
        "config": dict(dataset.manifest.config),
        "digest": dataset.digest,
    }


def _rejects(dataset: Dataset) -> dict[str, int]:
    """How many inputs and clips were refused, by reason."""
    reasons = read_table(dataset.store, "rejects.parquet")["reason"].to_pylist()
    return dict(sorted(Counter(reasons).items()))


def _layer(dataset: Dataset, layer: Layer, clip_bytes: int) -> dict[str, Any]:
    fields: Counter[tuple[int, str]] = Counter()
    sizes: Counter[tuple[int, str]] = Counter()
    for table in dataset.each(["pair_source", "pair_target", "field_size"], layer):
        source, target, size = (pc.list_flatten(column).to_numpy() for column in table.columns)
        for level, direction in product(layer.spec["levels"], layer.spec["directions"]):
            ours = target - source == (level if direction == "forward" else -level)
            fields[level, direction] += int(ours.sum())
            sizes[level, direction] += int(size[ours].sum())
    return {
        "estimator": layer.spec["estimator"],
        "frames_from": layer.spec["frames_from"],
        "levels": layer.spec["levels"],
        "fields": fields.total(),
        "bytes": sizes.total(),
        "of_the_clips_bytes": _share(sizes.total(), clip_bytes),
        "parts": {
            f"level {level} {direction}": {
                "bytes": size,
                "of_the_clips_bytes": _share(size, clip_bytes),
                "read_by": _readers(level, direction),
            }
            for (level, direction), size in sizes.items()
        },
    }


def _share(size: int, clip_bytes: int) -> float:
    return round(size / clip_bytes, 2) if clip_bytes else 0.0


def _readers(level: int, direction: str) -> str:
    """What of training reads the fields of a level; `trainer.temporal.plan.supervise` decides."""
    if direction == "backward":
        return "FlowLoss with flow_loss.order composed or neighbours"
    if level == 1:
        return "FlowLoss at full rate"
    return f"FlowLoss of the pyramid stage of stride {level}, if its noise is below flow_loss.psi"


def _total(column: Any) -> int:
    return pc.sum(column).as_py() or 0
