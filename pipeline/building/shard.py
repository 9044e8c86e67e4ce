"""Building one shard: decode its clips, get their flow, write and commit its files.

A shard is a pure function of its rows of the clip table and the configuration. Its clip Parquet is
written last and commits it; whatever an interrupted attempt left is overwritten by equal bytes.
"""

import ctypes
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass

import cv2
import pyarrow as pa
import torch

from flow_cache import FlowSpec
from pipeline.building.commits import REJECTS_KEY, ShardFiles, shard_files
from pipeline.building.costs import Costs
from pipeline.building.layer_writer import LayerWriter
from pipeline.building.task import Shards, Task
from pipeline.cluster import announce_clip
from pipeline.makers import this_process
from pipeline.planning.clip_plan import by_shard
from pipeline.planning.plan_files import plan_files, read_files
from pipeline.records import Reject
from pipeline.source.clip_frames import RESCAN, read_clips
from shards import (
    Clip,
    Manifest,
    Span,
    Stopwatch,
    Store,
    clips_of,
    decode_clip,
    encode_clip,
    shard_tar,
)
from shards.manifest import canonical_json
from shards.schema import CLIP_MEMBERS, member_columns, shard_name, span_columns
from shards.writer import ShardTar

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # in glibc's malloc.h


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardTask(Task):
    """One shard to build, clips and flow, from its rows of the clip table.

    Attributes:
        crf: of the clip videos.
        remedy: what to do about a source video that changed.
    """

    crf: int
    remedy: str = RESCAN

    @property
    def clips_stem(self) -> str:
        """Name of the clip files without suffix."""
        return self.stem("clips")

    @property
    def stems(self) -> tuple[str, ...]:
        return (*map(self.layer_stem, self.specs), self.clips_stem)

    def run(self) -> Costs:
        """Write the shard's tars and Parquet files.

        A clip that cannot be decoded any more is left out and recorded as a `Reject`.

        Raises:
            SourceChanged: a video is not the one that was scanned; nothing is committed.
            DamagedDataset: they would not be those that the manifest records.
        """
        settle_worker()
        with ExitStack() as stack:
            tar = stack.enter_context(shard_tar(self.store, f"{self.clips_stem}.tar"))
            layers = self.open_layers(stack)
            spans, rejects, costs = self._write_clips(tar, layers)
            tables = {self.layer_stem(layer.spec): layer.table() for layer in layers}
            tables[self.clips_stem] = committed_rows(self.rows, spans, rejects)
            files = self.serialised(tables)
            self.sign(layers, clips=(this_process(),) if spans else ())
        for stem, data in files.items():
            self.store.write(f"{stem}.parquet", data)
        return sum((layer.costs for layer in layers), costs)

    def _write_clips(
        self, tar: ShardTar, layers: Sequence[LayerWriter]
    ) -> tuple[dict[int, dict[str, Span]], list[Reject], Costs]:
        """Places of the members of each row that could be built, and why others could not."""
        watch, clips = Stopwatch(), clips_of(self.rows)
        spans: dict[int, dict[str, Span]] = {}
        rejects: list[Reject] = []
        pictures = read_clips(clips, remedy=self.remedy)
        for row, clip in enumerate(clips):
            with watch("decode"):
                frames = next(pictures)
            if isinstance(frames, Reject):
                rejects.append(frames)
                continue
            with watch("encode"):
                video = encode_clip(frames, clip.fps, crf=self.crf)
            spans[row] = tar.add(clip.key, clip_members(clip, self.shard, video))
            for layer in layers:
                seen = frames if layer.spec.frames_from == "source" else decode_clip(video)
                layer.add(clip, seen, spans[row]["mp4"])
            announce_clip()
        return spans, rejects, Costs(seconds=dict(watch.seconds))


class PlannedShards(Shards):
    """The shards of a dataset's plan; `crf` and `remedy` are as in `ShardTask`."""

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        specs: tuple[FlowSpec, ...],
        crf: int,
        remedy: str = RESCAN,
    ) -> None:
        self._store, self._crf, self._remedy = store, crf, remedy
        self._recorded = manifest.digests
        self._files: dict[str, tuple[str, set[int]]] = {}
        self.specs = specs
        self.sizes: dict[int, int] = {}
        for name, digest in plan_files(manifest).items():
            (table,) = read_files(store, {name: digest}, ["shard"])
            sizes = {shard: len(rows) for shard, rows in by_shard(table)}
            self._files[name] = digest, {*sizes}
            self.sizes |= sizes

    def files(self, shard: int) -> ShardFiles:
        stems = [f"flow/{spec.layer}/{shard_name(shard)}" for spec in self.specs]
        stems.append(f"clips/{shard_name(shard)}")
        return shard_files(self._store, shard, tuple(stems), self._recorded)

    def tasks(self, shards: Container[int]) -> Iterator[ShardTask]:
        for name, (digest, held) in self._files.items():
            if any(shard in shards for shard in held):
                (table,) = read_files(self._store, {name: digest})
                wanted = ((s, rows) for s, rows in by_shard(table) if s in shards)
                yield from (self._task(shard, rows) for shard, rows in wanted)

    def _task(self, shard: int, rows: pa.Table) -> ShardTask:
        return ShardTask(
            store=self._store,
            shard=shard,
            rows=rows,
            specs=self.specs,
            crf=self._crf,
            remedy=self._remedy,
            recorded=self.files(shard).recorded,
        )


def clip_members(clip: Clip, shard: int, video: bytes) -> dict[str, bytes]:
    """KEY.json, KEY.mp4 and KEY.txt."""
    row = canonical_json(clip.to_row(shard))
    return {"json": row, "mp4": video, "txt": clip.caption.encode()}


def committed_rows(
    rows: pa.Table, spans: Mapping[int, Mapping[str, Span]], rejects: Sequence[Reject]
) -> pa.Table:
    """A shard's clip Parquet: the rows that were built, with the places of their members."""
    columns = [span_columns(members) for members in spans.values()]
    places = pa.Table.from_pylist(columns, schema=member_columns(CLIP_MEMBERS))
    table = rows.take(pa.array(list(spans), pa.int64()))
    for name in places.column_names:
        table = table.append_column(places.schema.field(name), places[name])
    notes = {REJECTS_KEY: canonical_json([asdict(reject) for reject in rejects])}
    return table.combine_chunks().replace_schema_metadata(notes)


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
