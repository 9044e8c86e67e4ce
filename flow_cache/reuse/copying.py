"""Flow of earlier builds: where to look for it, and copying it into a new shard.

A stored field is taken if it was made by the same recipe from the same two frames: same source
video, same times in it. Nothing of an earlier dataset is trusted: the index of a shard is checked
against its digest, each field against the index's checksum, its own, and its header, and its parts
are expanded to see that they decode. What fails is estimated again, so a copy is what an estimate
would have given, byte for byte.
"""

import zlib
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from flow_cache import FlowSpec, Pair
from flow_cache.coding import check_field, relabel
from flow_cache.reuse.catalog import Catalog
from flow_cache.reuse.entries import StoredShard
from shards import (
    Clip,
    DamagedDataset,
    Span,
    Store,
    UsageError,
    clips_of,
    read_index,
    read_manifest,
)
from shards.manifest import canonical_json, sha256_of
from shards.reader import read_spans
from shards.schema import spans_of

_CLIP = ("source_sha256", "pts", "pair_source", "pair_target")
_FIELD = ("field_offset", "field_size", "field_crc32")


_UNUSABLE = (OSError, ValueError, KeyError, pa.ArrowException)  # of what others wrote, or lost


def frames_identity(spec: FlowSpec, clip: Clip, video: Span | None) -> tuple[str, tuple[int, ...]]:
    """What tells the frames that a layer's flow of a clip is made from: a SHA-256, and their times.

    For a layer from source videos, the video's and the frames' times in it. For one from stored
    clips it is the digest of what names the clip's bytes, and slot numbers.

    Args:
        video: the place of the stored clip, for a layer from stored clips.
    """
    if spec.frames_from == "source":
        return clip.source_sha256, clip.pts
    assert video is not None, "a layer from stored clips is made when they are stored"
    stored = [clip.source_sha256, list(clip.pts), video.size, video.crc32]
    return sha256_of(canonical_json(stored)), tuple(range(len(clip.pts)))


def find_stored(
    catalog: Catalog | None, spec: FlowSpec, shards: Sequence[pa.Table]
) -> tuple[list[tuple[StoredShard, ...]], frozenset[str]]:
    """Where flow of the clips of each of some shards may be stored, shard by shard; and warnings.

    Args:
        shards: their rows of the clip table; for a layer from stored clips, of the clip Parquet.
    """
    if catalog is None:
        return [()] * len(shards), frozenset()
    spans = [_spans(spec, rows) for rows in shards]
    try:
        found = catalog.find(spec.field_digest, set().union(*spans))
    except OSError as error:  # a catalog out of reach must not stop a build
        return [()] * len(shards), frozenset({f"flow cache {catalog.url} was not used: {error}"})
    return [found.near(sources) for sources in spans], frozenset(found.warnings)


def _spans(spec: FlowSpec, rows: pa.Table) -> dict[str, tuple[int, int]]:
    """First and last time that a shard's clips use of each source."""
    spans: dict[str, tuple[int, int]] = {}
    videos = spans_of(rows, "mp4") if spec.frames_from == "clip" else [None] * len(rows)
    for clip, video in zip(clips_of(rows), videos, strict=True):
        source, times = frames_identity(spec, clip, video)
        first, last = spans.get(source, (times[0], times[-1]))
        spans[source] = min(first, times[0]), max(last, times[-1])
    return spans


def enter(catalog: Catalog, dataset: Store) -> list[str]:
    """Enter all layers of a dataset into the catalog; returns their names.

    Raises:
        UsageError: there is no dataset, it is not finished, it owns no flow.
        DamagedDataset: it is not what was written.
    """
    manifest = read_manifest(dataset)
    if manifest.state != "complete":
        raise UsageError(f"the build of {dataset.url} has not finished; run the same command again")
    if manifest.merged:
        parts = ", ".join(manifest.merged)
        raise UsageError(f"{dataset.url} owns no flow, it refers to that of {parts}: add these")
    for layer in manifest.layers.values():
        catalog.add(dataset, layer.name, FlowSpec.from_json(layer.spec).field_digest)
    return list(manifest.layers)


def register(catalog: Catalog | None, dataset: Store) -> frozenset[str]:
    """Enter a dataset that has just been finished; returns what went wrong."""
    try:
        if catalog is not None:
            enter(catalog, dataset)
    except (OSError, DamagedDataset) as error:  # the dataset is complete all the same
        return frozenset(
            {f"the flow of {dataset.url} could not be entered into the flow cache: {error}"}
        )
    return frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Copies:
    """What one clip took from earlier layers.

    Attributes:
        fields: encoded, by pair of the clip's slots.
        origins: how many of them came from the dataset of each URL.
        warnings: what could not be used.
    """

    fields: dict[Pair, bytes]
    origins: Counter[str]
    warnings: frozenset[str]


class StoredFields:
    """What one new shard of a layer can take from earlier layers.

    Args:
        spec: of the new layer.
        whole_clip: the estimator looks at whole clips, so only the same clip's fields will do.
        shards: where to look.

    Attributes:
        warnings: which of the shards cannot be used, and why.
    """

    def __init__(self, spec: FlowSpec, whole_clip: bool, shards: Sequence[StoredShard]) -> None:
        self._spec, self._whole_clip, self._digest = spec, whole_clip, spec.field_digest
        self.warnings: frozenset[str] = frozenset()
        self._indexes = [(shard, self._index(shard)) for shard in shards]

    def take(self, source: str, times: tuple[int, ...], pairs: Sequence[Pair]) -> Copies:
        """Those of a clip's fields that are stored and sound.

        Args:
            source, times: of `frames_identity`.
        """
        taken: dict[Pair, bytes] = {}
        origins: Counter[str] = Counter()
        warnings: frozenset[str] = frozenset()
        for shard, index in self._indexes:
            keys = {pair: self._key(source, times, pair) for pair in pairs if pair not in taken}
            places = {pair: index[key] for pair, key in keys.items() if key in index}
            if places:
                fields, problems = self._copy(shard, places)
                taken |= fields
                origins += Counter({shard.dataset.url: len(fields)})
                warnings |= problems
        return Copies(fields=taken, origins=origins, warnings=warnings)

    def _key(self, source: str, times: tuple[int, ...], pair: Pair) -> Hashable:
        if self._whole_clip:
            return source, times, pair
        return source, times[pair[0]], times[pair[1]]

    def _index(self, shard: StoredShard) -> dict[Hashable, Span]:
        """Places of the fields in some rows of a stored shard, by key; empty if it is unusable."""
        index: dict[Hashable, Span] = {}
        file = f"{shard.stem}.parquet"
        try:
            table = read_index(shard.dataset, file, shard.sha256, [*_CLIP, *_FIELD])
            for row in table.take(shard.rows).to_pylist():
                pairs = zip(row["pair_source"], row["pair_target"], strict=True)
                places = zip(*(row[name] for name in _FIELD), strict=True)
                for pair, (offset, size, crc32) in zip(pairs, places, strict=True):
                    key = self._key(row["source_sha256"], tuple(row["pts"]), pair)
                    index.setdefault(key, Span(offset=offset, size=size, crc32=crc32))
        except _UNUSABLE as error:
            self.warnings |= {f"{shard.dataset.at(file)} was not used: {error}"}
            return {}
        return index

    def _copy(
        self, shard: StoredShard, places: Mapping[Pair, Span]
    ) -> tuple[dict[Pair, bytes], set[str]]:
        """The sound fields at some places of a shard, and what is wrong with others."""
        tar, copies, problems = f"{shard.stem}.tar", {}, set()
        spans = [(place.offset, place.size) for place in places.values()]
        try:
            blobs = read_spans(shard.dataset, tar, spans)
        except _UNUSABLE as error:
            return {}, {f"{shard.dataset.at(tar)} was not used: {error}"}
        for (pair, place), blob in zip(places.items(), blobs, strict=True):
            if zlib.crc32(blob) == place.crc32 and self._fits(blob):
                copies[pair] = relabel(blob, pair)
            else:
                problems.add(f"{shard.dataset.at(tar)} is damaged; what is lost was computed again")
        return copies, problems

    def _fits(self, blob: bytes) -> bool:
        try:
            header = check_field(blob)
        except ValueError:
            return False
        bounded = header.max_error_px <= self._spec.max_error_px
        return bounded and (header.size, header.spec_digest) == (self._spec.size, self._digest)
