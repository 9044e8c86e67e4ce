"""Adding a flow layer to a finished dataset, without touching its clips or other layers.

Each shard's flow tar comes first, its Parquet commits it, and the manifest names the layer once
all shards are there: killed at any moment and started again, it ends with the same bytes.
"""

import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
from distributed import Client

from flow_cache import FlowSpec
from flow_cache.reuse.catalog import Catalog
from flow_cache.reuse.copying import find_stored, register
from flow_cache.reuse.entries import StoredShard
from pipeline.building.costs import Costs
from pipeline.building.job import Outcome, run_shards
from pipeline.building.layer_writer import LayerWriter
from pipeline.building.shard import settle_worker
from pipeline.cluster import announce_clip
from pipeline.planning.clip_plan import Progress
from pipeline.planning.clip_table import clip_of_row
from pipeline.planning.config import BuildConfig, flow_specs
from pipeline.records import Reject
from pipeline.source.clip_frames import read_clips
from pipeline.source.probe import file_sha256
from shards.clip_video import decode_clip
from shards.index import Dataset, read_manifest, sha256, write_manifest
from shards.schema import shard_name
from shards.stopwatch import Stopwatch
from shards.store import exists, join, read_bytes, read_range, remove_unfinished
from shards.writer import shard_tar


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowTask:
    """One shard of a new layer.

    Attributes:
        rows: of the shard's clip Parquet.
        stored: where flow of the clips may be already.
    """

    url: str
    shard: int
    rows: pa.Table
    spec: FlowSpec
    stored: tuple[StoredShard, ...] = ()

    @property
    def stem(self) -> str:
        return join(self.url, "flow", self.spec.layer, shard_name(self.shard))

    @property
    def clips_tar(self) -> str:
        return join(self.url, "clips", f"{shard_name(self.shard)}.tar")

    @property
    def committed(self) -> bool:
        return exists(f"{self.stem}.parquet")


def layer_spec(
    dataset: Dataset, estimator: str, *, from_clips: bool, levels: tuple[int, ...] = ()
) -> FlowSpec:
    """The spec of a new layer: as the dataset's configuration says, but for the arguments.

    Raises:
        ValueError: an unknown estimator, levels that the clips are too short for, or a dataset
            that refers to the shards of others.
    """
    if "merged" in dataset.manifest:
        parts = ", ".join(dataset.manifest["merged"])
        raise ValueError(
            f"{dataset.url} refers to the shards of {parts}: add the layer to each of these, then "
            "merge them again"
        )
    stored = {**dataset.manifest["config"], "flow": estimator}
    config = BuildConfig.from_json(stored | ({"levels": levels} if levels else {}))
    (spec,) = flow_specs(config, "clip" if from_clips else "source")
    return spec


def run_flow(
    dataset: Dataset,
    spec: FlowSpec,
    client: Client,
    progress: Progress,
    catalog: Catalog | None = None,
) -> Outcome:
    """Add the layer of a spec to a dataset, or continue adding it.

    Raises:
        ValueError: source videos are gone that the flow is to be made from.
    """
    url = dataset.url
    remove_unfinished(join(url, "flow", spec.layer))
    tasks = flow_tasks(dataset, spec)
    pending = [task for task in tasks if not task.committed]
    if spec.frames_from == "source":
        _check_sources(pending)
    stored, warnings = find_stored(catalog, spec, [task.rows for task in pending])
    pending = [replace(task, stored=s) for task, s in zip(pending, stored, strict=True)]
    failed, costs = run_shards(client, build_layer_shard, pending, partial(progress, "flow"))
    if not failed:
        add_to_manifest(url, tasks, spec)
        warnings |= set(register(catalog, url))
    return Outcome(
        inputs=0,
        clips=0 if failed else len(dataset.clips),
        built=len(pending) - len(failed),
        kept=len(tasks) - len(pending),
        failed=failed,
        rejects=[],
        costs=costs + Costs(warnings=warnings),
    )


def flow_tasks(dataset: Dataset, spec: FlowSpec) -> list[FlowTask]:
    """One task for each shard of the dataset."""
    ends = np.cumsum(dataset.shard_rows)
    return [
        FlowTask(url=dataset.url, shard=int(name), rows=dataset.clips.slice(end - n, n), spec=spec)
        for name, end, n in zip(dataset.shards, ends, dataset.shard_rows, strict=True)
    ]


def _check_sources(tasks: Sequence[FlowTask]) -> None:
    paths = {path for task in tasks for path in task.rows["path"].unique().to_pylist()}
    gone = sorted(path for path in paths if not os.path.exists(path))
    if gone:
        raise ValueError(
            f"{len(gone)} of {len(paths)} source videos are gone, first {gone[0]}: bring them "
            "back, or use --from-clips to compute flow on the stored clips"
        )


def add_to_manifest(url: str, tasks: Sequence[FlowTask], spec: FlowSpec) -> None:
    """Name the layer in the manifest, as it is now: other layers may have come since."""
    digests = {shard_name(t.shard): sha256(read_bytes(f"{t.stem}.parquet")) for t in tasks}
    manifest = read_manifest(url)
    layer = {spec.layer: {"spec": spec.to_json(), "shards": digests}}
    write_manifest(url, {**manifest, "layers": manifest["layers"] | layer})


def build_layer_shard(task: FlowTask) -> Costs:
    """Write one shard of the layer; does nothing if it is committed already.

    Raises:
        ValueError: a clip's frames are not what they were.
    """
    if task.committed:
        return Costs()
    watch = Stopwatch()
    settle_worker()
    rows = task.rows.to_pylist()
    with shard_tar(f"{task.stem}.tar") as tar:
        layer = LayerWriter(task.spec, tar, task.stored)
        read = source_frames if task.spec.frames_from == "source" else clip_frames
        pictures = read(task, rows)
        for row in rows:
            with watch("decode"):
                frames = next(pictures)
            layer.add(row, frames)
            announce_clip()
    layer.commit(task.stem)
    return Costs(seconds=dict(watch.seconds)) + layer.costs


def source_frames(task: FlowTask, rows: Sequence[dict[str, Any]]) -> Iterator[np.ndarray]:
    """Frames of the clips, decoded from their source videos; uint8 [t, 3, h, w] each."""
    for row in rows:
        state = os.stat(row["path"])
        if _sha256(row["path"], state.st_size, state.st_mtime_ns) != row["source_sha256"]:
            raise ValueError(
                f"{row['path']} is not the video that clip {row['key']} was made from: bring that "
                "back, or use --from-clips to compute flow on the stored clips"
            )
    for frames in read_clips([clip_of_row(row) for row in rows], task.spec.size):
        if isinstance(frames, Reject):
            raise ValueError(f"{frames.path}: {frames.detail}")
        yield frames


@lru_cache(maxsize=1024)
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    """Of a file in the state that the other arguments tell."""
    return file_sha256(path)


def clip_frames(task: FlowTask, rows: Sequence[dict[str, Any]]) -> Iterator[np.ndarray]:
    """Frames of the clips as they are stored; uint8 [t, 3, h, w] each."""
    for row in rows:
        data = read_range(task.clips_tar, row["mp4_offset"], row["mp4_size"])
        if zlib.crc32(data) != row["mp4_crc32"]:
            raise ValueError(f"{task.clips_tar}: {row['key']}.mp4 is damaged: build it again")
        yield decode_clip(data)
