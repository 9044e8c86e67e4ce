"""Building one shard: decode its clips, estimate their flow, write and commit its files.

A shard is a pure function of its rows of the clip table and the configuration. Its clip Parquet is
written last and commits it; whatever an interrupted attempt left is overwritten by equal bytes.
"""

import zlib
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import accumulate
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import torch

from flow_cache import FlowSpec
from flow_cache.codec import encode_field, read_header
from flow_cache.estimate import estimate_clip
from flow_cache.estimators import load_estimator
from flow_cache.quality import FIGURES, clip_quality
from pipeline.config import BuildConfig, flow_specs
from pipeline.decode import read_clips
from pipeline.records import Reject
from pipeline.tables import clip_of_row
from shards.index import canonical_json
from shards.schema import CLIP_MEMBERS, FLOW_MEMBERS, FLOW_TABLE, member_columns, shard_name
from shards.storage import exists, join
from shards.video import encode_clip
from shards.writer import ShardTar, shard_tar, span_columns, write_table

REJECTS_KEY = b"rejects"  # in the metadata of a shard's clip Parquet: clips that were left out
_CLIP_COLUMNS = member_columns(CLIP_MEMBERS)
_FLOW_SCHEMA = pa.unify_schemas(
    [
        FLOW_TABLE,
        member_columns(FLOW_MEMBERS),
        pa.schema([(figure, pa.float64()) for figure in FIGURES]),
    ]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardTask:
    """One shard to build: metadata only, it travels to a worker."""

    url: str
    shard: int
    rows: pa.Table  # of the clip table
    config: BuildConfig

    @property
    def clips_stem(self) -> str:
        return join(self.url, "clips", shard_name(self.shard))

    def flow_stem(self, spec: FlowSpec) -> str:
        return join(self.url, "flow", spec.layer, shard_name(self.shard))

    @property
    def committed(self) -> bool:
        return exists(f"{self.clips_stem}.parquet")


def build_shard(task: ShardTask) -> None:
    """Write the shard's tars and Parquet files; does nothing if it is committed already.

    A clip that cannot be decoded any more is left out and recorded as a `Reject`.
    """
    if task.committed:
        return
    torch.set_num_threads(1)  # a worker is one thread; no result depends on the machine's size
    cv2.setNumThreads(1)
    clip_rows: list[dict[str, Any]] = []
    rejects: list[Reject] = []
    with ExitStack() as stack:
        clips = stack.enter_context(shard_tar(f"{task.clips_stem}.tar"))
        layers = [
            LayerShard(spec, stack.enter_context(shard_tar(f"{task.flow_stem(spec)}.tar")))
            for spec in flow_specs(task.config)
        ]
        rows = task.rows.to_pylist()
        pictures = read_clips([clip_of_row(row) for row in rows], task.config.size)
        for row, frames in zip(rows, pictures, strict=True):
            if isinstance(frames, Reject):
                rejects.append(frames)
                continue
            clip_rows.append(write_clip(clips, row, frames, task.config.crf))
            for layer in layers:
                layer.add(row, frames)
    for layer in layers:
        table = pa.Table.from_pylist(layer.rows, schema=_FLOW_SCHEMA)
        write_table(f"{task.flow_stem(layer.spec)}.parquet", table)
    schema = pa.unify_schemas([task.rows.schema, _CLIP_COLUMNS])
    notes = {REJECTS_KEY: canonical_json([asdict(reject) for reject in rejects])}
    table = pa.Table.from_pylist(clip_rows, schema=schema).replace_schema_metadata(notes)
    write_table(f"{task.clips_stem}.parquet", table)


def write_clip(tar: ShardTar, row: dict[str, Any], frames: np.ndarray, crf: int) -> dict[str, Any]:
    """Write KEY.json, KEY.mp4 and KEY.txt; returns the clip's row with their places."""
    members = {
        "json": canonical_json(row),
        "mp4": encode_clip(frames, Fraction(row["fps_num"], row["fps_den"]), crf=crf),
        "txt": row["caption"].encode(),
    }
    return row | span_columns(tar.add(row["key"], members))


class LayerShard:
    """The shard of one flow layer while it is written."""

    def __init__(self, spec: FlowSpec, tar: ShardTar) -> None:
        self.spec = spec
        self.rows: list[dict[str, Any]] = []
        self._tar = tar
        self._estimator = load_estimator(spec.estimator, **spec.params)

    def add(self, clip: dict[str, Any], frames: np.ndarray) -> None:
        """Estimate, encode and write KEY.flow; its row gets the place of every field.

        Args:
            clip: a row of the clip table.
            frames: uint8 [t, 3, h, w].
        """
        images = torch.from_numpy(frames)
        fields = estimate_clip(self._estimator, images, self.spec)
        blobs = [
            encode_field(
                field.flow[0],
                field.visible[0],
                pair=pair,
                max_error_px=self.spec.max_error_px,
                spec_digest=self.spec.field_digest,
            )
            for pair, field in fields.items()
        ]
        span = self._tar.add(clip["key"], {"flow": b"".join(blobs)})["flow"]
        sizes = [len(blob) for blob in blobs]
        self.rows.append(
            {
                **{name: clip[name] for name in ("key", "source_sha256", "pts")},
                "pair_source": [source for source, _ in fields],
                "pair_target": [target for _, target in fields],
                "field_offset": list(accumulate(sizes[:-1], initial=span.offset)),
                "field_size": sizes,
                "field_crc32": [zlib.crc32(blob) for blob in blobs],
                **span_columns({"flow": span}),
                **clip_quality(images, fields, sum(read_header(b).saturated for b in blobs)),
            }
        )
