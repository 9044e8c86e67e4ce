"""Building one shard: decode its clips, get their flow, write and commit its files.

A shard is a pure function of its rows of the clip table and the configuration. Its clip Parquet is
written last and commits it; whatever an interrupted attempt left is overwritten by equal bytes.
"""

import ctypes
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any

import cv2
import pyarrow as pa
import torch

from flow_cache import FlowSpec
from flow_cache.reuse.entries import StoredShard
from pipeline.building.costs import Costs
from pipeline.building.layer_writer import LayerWriter
from pipeline.cluster import announce_clip
from pipeline.planning.clip_table import clip_of_row
from pipeline.planning.config import BuildConfig
from pipeline.records import Reject
from pipeline.source.clip_frames import read_clips
from shards.clip_video import decode_clip, encode_clip
from shards.index import canonical_json
from shards.schema import CLIP_MEMBERS, member_columns, shard_name
from shards.stopwatch import Stopwatch
from shards.store import exists, join
from shards.writer import ShardTar, shard_tar, span_columns, write_table

REJECTS_KEY = b"rejects"  # in the metadata of a shard's clip Parquet: clips that were left out
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # in glibc's malloc.h
_CLIP_COLUMNS = member_columns(CLIP_MEMBERS)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardTask:
    """One shard to build: metadata only, it travels to a worker.

    Attributes:
        rows: of the clip table.
        specs: of the flow layers.
        stored: where flow of the clips may be already, by layer.
    """

    url: str
    shard: int
    rows: pa.Table
    config: BuildConfig
    specs: tuple[FlowSpec, ...]
    stored: Mapping[str, tuple[StoredShard, ...]] = field(default_factory=dict)

    @property
    def clips_stem(self) -> str:
        return join(self.url, "clips", shard_name(self.shard))

    def flow_stem(self, spec: FlowSpec) -> str:
        return join(self.url, "flow", spec.layer, shard_name(self.shard))

    @property
    def committed(self) -> bool:
        stems = [self.clips_stem, *map(self.flow_stem, self.specs)]
        return all(exists(f"{stem}.parquet") for stem in stems)


def build_shard(task: ShardTask) -> Costs:
    """Write the shard's tars and Parquet files; does nothing if it is committed already.

    A clip that cannot be decoded any more is left out and recorded as a `Reject`.
    """
    if task.committed:
        return Costs()
    watch = Stopwatch()
    settle_worker()
    clip_rows: list[dict[str, Any]] = []
    rejects: list[Reject] = []
    with ExitStack() as stack:
        clips = stack.enter_context(shard_tar(f"{task.clips_stem}.tar"))
        layers = [
            LayerWriter(
                spec,
                stack.enter_context(shard_tar(f"{task.flow_stem(spec)}.tar")),
                task.stored.get(spec.layer, ()),
            )
            for spec in task.specs
        ]
        rows = task.rows.to_pylist()
        pictures = read_clips([clip_of_row(row) for row in rows], task.config.size)
        for row in rows:
            with watch("decode"):
                frames = next(pictures)
            if isinstance(frames, Reject):
                rejects.append(frames)
                continue
            fps = Fraction(row["fps_num"], row["fps_den"])
            with watch("encode"):
                video = encode_clip(frames, fps, crf=task.config.crf)
            clip_rows.append(write_clip(clips, row, video))
            for layer in layers:
                seen = frames if layer.spec.frames_from == "source" else decode_clip(video)
                layer.add(clip_rows[-1], seen)
            announce_clip()
    for layer in layers:
        layer.commit(task.flow_stem(layer.spec))
    schema = pa.unify_schemas([task.rows.schema, _CLIP_COLUMNS])
    notes = {REJECTS_KEY: canonical_json([asdict(reject) for reject in rejects])}
    table = pa.Table.from_pylist(clip_rows, schema=schema).replace_schema_metadata(notes)
    write_table(f"{task.clips_stem}.parquet", table)
    return sum((layer.costs for layer in layers), Costs(seconds=dict(watch.seconds)))


def settle_worker() -> None:
    """Make the process a worker: one thread, so that no result depends on the machine's size.

    And memory that is freed stays with it. Otherwise glibc, more so as Dask sets it, returns each
    large block to the system and asks for it again at the next operation on an image, whose first
    touch of every page then takes several times longer than the operation.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with suppress(OSError, AttributeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
        mallopt(_M_TRIM_THRESHOLD, 512 * 2**20)


def write_clip(tar: ShardTar, row: dict[str, Any], video: bytes) -> dict[str, Any]:
    """Write KEY.json, KEY.mp4 and KEY.txt; returns the clip's row with their places."""
    members = {"json": canonical_json(row), "mp4": video, "txt": row["caption"].encode()}
    return row | span_columns(tar.add(row["key"], members))
