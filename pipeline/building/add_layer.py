"""Adding a flow layer to a finished dataset, without touching its clips or other layers.

Each shard's flow tar comes first, its Parquet commits it, and the manifest names the layer once
all shards are there: killed at any moment and started again, it ends with the same bytes.
"""

import zlib
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from distributed import Client

from flow_cache import DIRECTIONS, FlowSpec
from flow_cache.reuse.catalog import Catalog
from pipeline.building.commits import Commit, ShardFiles, shard_files
from pipeline.building.costs import Costs
from pipeline.building.job import Outcome, build_shards
from pipeline.building.shard import settle_worker
from pipeline.building.task import Shards, Task
from pipeline.cluster import announce_clip
from pipeline.makers import forget, with_makers
from pipeline.planning.config import BuildConfig, Directions, flow_specs
from pipeline.records import Progress, Reject
from pipeline.source.clip_frames import read_clips
from pipeline.source.files import is_there
from shards import (
    Clip,
    DamagedDataset,
    Dataset,
    Layer,
    Span,
    Stopwatch,
    Store,
    UsageError,
    clips_of,
    decode_clip,
    read_manifest,
    write_manifest,
)
from shards.schema import shard_name, spans_of


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerTask(Task):
    """One shard of a new layer, from the rows of the shard's clip Parquet; it has one spec."""

    @property
    def stems(self) -> tuple[str, ...]:
        return (self.layer_stem(*self.specs),)

    def run(self) -> Costs:
        """Write the shard of the layer.

        Raises:
            SourceChanged: a source video is not what the clips were made from.
            UsageError: a clip does not decode any more.
            DamagedDataset: a stored clip is not what was written, or the shard would not be what
                the manifest records.
        """
        settle_worker()
        watch, clips, videos = Stopwatch(), clips_of(self.rows), spans_of(self.rows, "mp4")
        from_source = self.specs[0].frames_from == "source"
        pictures = source_frames(clips) if from_source else self._clip_frames(clips, videos)
        with ExitStack() as stack:
            (layer,) = self.open_layers(stack)
            for clip, video in zip(clips, videos, strict=True):
                with watch("decode"):
                    frames = next(pictures)
                layer.add(clip, frames, video)
                announce_clip()
            files = self.serialised({self.layer_stem(layer.spec): layer.table()})
            self.sign([layer])
        for stem, data in files.items():
            self.store.write(f"{stem}.parquet", data)
        return Costs(seconds=dict(watch.seconds)) + layer.costs

    def _clip_frames(self, clips: Sequence[Clip], videos: Sequence[Span]) -> Iterator[np.ndarray]:
        """Frames of the clips as they are stored; uint8 [t, 3, h, w] each."""
        tar = f"clips/{shard_name(self.shard)}.tar"
        for clip, video in zip(clips, videos, strict=True):
            data = self.store.read_range(tar, video.offset, video.size)
            if zlib.crc32(data) != video.crc32:
                raise DamagedDataset(
                    f"{self.store.at(tar)}: {clip.key}.mp4 is damaged: build it again"
                )
            yield decode_clip(data)


def check_not_merged(dataset: Dataset) -> None:
    """UsageError if a dataset refers to the shards of others."""
    if dataset.manifest.merged:
        parts = ", ".join(dataset.manifest.merged)
        raise UsageError(
            f"{dataset.url} refers to the shards of {parts}: add the layer to each of these, then "
            "merge them again"
        )


def layer_spec(
    dataset: Dataset,
    estimator: str,
    *,
    from_clips: bool,
    levels: tuple[int, ...] = (),
    directions: Directions = (),
    max_error_px: float | None = None,
) -> FlowSpec:
    """The spec of a new layer: as the dataset's configuration says, but for the arguments given.

    Raises:
        UsageError: an unknown estimator, levels that the clips are too short for, or a dataset
            that refers to the shards of others.
    """
    check_not_merged(dataset)
    given = {"levels": levels, "directions": directions, "max_error_px": max_error_px}
    config = BuildConfig.from_json(
        {"directions": DIRECTIONS}  # what layers held before there was a choice
        | {**dataset.manifest.config, "flow": estimator}
        | {name: value for name, value in given.items() if value not in ((), None)}
    )
    (spec,) = flow_specs(config, "clip" if from_clips else "source")
    return spec


def add_layer(
    dataset: Dataset,
    spec: FlowSpec,
    client: Client,
    progress: Progress,
    catalog: Catalog | None = None,
) -> Outcome:
    """Add the layer of a spec to a dataset, or continue adding it.

    Raises:
        UsageError: source videos are gone that the flow is to be made from.
    """
    shards = LayerShards(dataset, spec)
    if spec.frames_from == "source":
        waiting = {shard for shard in shards.sizes if not shards.files(shard).is_done}
        _check_sources(shards.tasks(waiting))
    return build_layer(dataset, shards, client, progress, catalog)


def build_layer(
    dataset: Dataset,
    shards: "LayerShards",
    client: Client,
    progress: Progress,
    catalog: Catalog | None,
) -> Outcome:
    """Build the shards of a layer that are missing; the manifest names it once all are there."""
    (spec,) = shards.specs
    Store(dataset.store.at("flow", spec.layer)).remove_unfinished()
    outcome = build_shards(shards, client, partial(progress, "flow"), catalog)
    if outcome.failed:
        return outcome
    add_to_manifest(dataset.store, stored_layer(outcome.commits, spec))
    return replace(outcome, clips=sum(dataset.shard_rows)).registered(catalog, dataset.store)


class LayerShards(Shards):
    """The shards of a new layer of a dataset."""

    def __init__(self, dataset: Dataset, spec: FlowSpec) -> None:
        self._dataset, self._recorded = dataset, dataset.manifest.digests
        self.specs = (spec,)
        self.sizes = dict(zip(map(int, dataset.shards), dataset.shard_rows, strict=True))

    def files(self, shard: int) -> ShardFiles:
        stem = f"flow/{self.specs[0].layer}/{shard_name(shard)}"
        return shard_files(self._dataset.store, shard, (stem,), self._recorded)

    def tasks(self, shards: Container[int]) -> Iterator[LayerTask]:
        for shard in (shard for shard in self.sizes if shard in shards):
            yield LayerTask(
                store=self._dataset.store,
                shard=shard,
                rows=self._dataset.rows(shard_name(shard)),
                specs=self.specs,
                recorded=self.files(shard).recorded,
            )


def _check_sources(tasks: Iterable[LayerTask]) -> None:
    paths = {path for task in tasks for path in task.rows["path"].unique().to_pylist()}
    gone = sorted(path for path in paths if not is_there(path))
    if gone:
        raise UsageError(
            f"{len(gone)} of {len(paths)} source videos are gone, first {gone[0]}: bring them "
            "back, or use --from-clips to compute flow on the stored clips"
        )


def add_to_manifest(store: Store, layer: Layer) -> None:
    """Name a layer in the manifest, as it is now: other layers may have come since."""
    manifest = with_makers(store, read_manifest(store))
    write_manifest(store, replace(manifest, layers={**manifest.layers, layer.name: layer}))
    forget(store)


def stored_layer(commits: Mapping[int, Commit], spec: FlowSpec) -> Layer:
    """The manifest's entry of a layer whose shards are all there."""
    digests = {
        shard_name(shard): commits[shard].digests[f"flow/{spec.layer}/{shard_name(shard)}"]
        for shard in sorted(commits)
    }
    return Layer(name=spec.layer, spec=spec.to_json(), shards=digests)


def source_frames(clips: Sequence[Clip]) -> Iterator[np.ndarray]:
    """Frames of the clips, decoded from their source videos; uint8 [t, 3, h, w] each."""
    remedy = "bring that back, or use --from-clips to compute flow on the stored clips"
    for frames in read_clips(clips, remedy=remedy):
        if isinstance(frames, Reject):
            raise UsageError(f"{frames.path}: {frames.detail}")
        yield frames
