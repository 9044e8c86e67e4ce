"""The build job: plan the clips, build the shards that are missing, close the manifest."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from distributed import Client

from flow_cache import FlowSpec
from flow_cache.reuse.catalog import Catalog
from pipeline.building.add_layer import stored_layer
from pipeline.building.costs import Costs
from pipeline.building.job import Outcome, build_shards
from pipeline.building.shard import REJECTS_KEY, ShardTask
from pipeline.planning.clip_plan import (
    CLIPS_FILE,
    REJECTS_FILE,
    Progress,
    damaged_tables,
    inputs_digest,
    plan_dataset,
    read_plan,
)
from pipeline.planning.clip_table import reject_table
from pipeline.planning.config import BuildConfig, flow_specs
from pipeline.records import Reject, Source
from shards import (
    DamagedDataset,
    Layer,
    Manifest,
    NoDataset,
    Shard,
    Store,
    UsageError,
    clips_of,
    read_manifest,
    write_manifest,
    write_table,
)
from shards.manifest import sha256_of
from shards.schema import shard_name


def make_dataset(
    sources: Sequence[Source],
    missing: Sequence[Reject],
    store: Store,
    config: BuildConfig,
    client: Client,
    progress: Progress,
    catalog: Catalog | None = None,
    *,
    allow_failed: bool = False,
) -> Outcome:
    """Build a dataset, or continue it: inputs that it has not seen add shards.

    All flow layers of the dataset grow, also those that were added later. Files that are not what
    the manifest records are made again, and must then be so. No other job may write to the store
    (`Store.alone`).

    Args:
        sources, missing: what `find_sources` found, and what it did not.
        store: of the dataset.
        catalog: where to look for flow that exists, and to enter this dataset's.
        allow_failed: close the dataset without the shards that failed. Their clips stand in the
            rejects; a later build tries them again.

    Raises:
        UsageError: the store holds a dataset of another configuration, or something else; or an
            estimator here is not the one that made the dataset's flow.
        DamagedDataset: a file is not what the manifest records and cannot be made again.
    """
    manifest = open_manifest(store, config)
    store.remove_unfinished()
    inputs = inputs_digest(sources, missing)
    damaged = damaged_tables(store, manifest.tables)
    if damaged and manifest.inputs != inputs:
        raise DamagedDataset(
            f"{store.at(damaged[0])} is damaged or gone: name the sources that the dataset was "
            "built from last, and no others, to have it made again, or bring it back from a copy"
        )
    warnings: frozenset[str] = frozenset()
    if damaged or manifest.inputs != inputs:
        plan = partial(plan_dataset, sources, missing, store, config, client, progress)
        files, warnings = plan(afresh=bool(damaged))
        manifest = write_plan(store, files, manifest, inputs)
    table, rejects = read_plan(store)  # as a rerun reads them: a table in memory differs in details
    specs = tuple(FlowSpec.from_json(layer.spec) for layer in manifest.layers.values())
    tasks = [task.knowing(manifest.digests) for task in shard_tasks(table, store, config, specs)]
    outcome = build_shards(tasks, client, partial(progress, "build"), catalog)
    costs = outcome.costs + Costs(warnings=warnings)
    outcome = replace(outcome, inputs=len(sources) + len(missing), rejects=rejects, costs=costs)
    if outcome.failed:
        if not allow_failed:
            return outcome
        rejects = rejects + lost_clips(tasks, outcome.failed)
        tasks = [task for task in tasks if shard_name(task.shard) not in outcome.failed]
    if {shard_name(task.shard) for task in tasks} != manifest.shards.keys():
        # Clips that are missing for now, or are not any more, are among the rejects.
        tables = {name: sha for name, sha in manifest.tables.items() if name != REJECTS_FILE}
        manifest = replace(manifest, tables=tables)
    clips, rejects = close_manifest(store, tasks, specs, rejects, manifest)
    return replace(outcome, clips=clips, rejects=rejects).registered(catalog, store)


def open_manifest(store: Store, config: BuildConfig) -> Manifest:
    """The manifest of a dataset, started if there is none.

    Raises:
        UsageError: see `make_dataset`; the message names what differs.
    """
    try:
        manifest = read_manifest(store)
    except NoDataset:
        if store.is_occupied():
            raise UsageError(
                f"{store.url} is not empty and holds no dataset; give a new folder for the output"
            ) from None
        layers = [Layer(name=spec.layer, spec=spec.to_json()) for spec in flow_specs(config)]
        manifest = Manifest(
            state="building",
            config=config.to_json(),
            layers={layer.name: layer for layer in layers},
        )
        write_manifest(store, manifest)
        return manifest
    if manifest.merged:
        parts = ", ".join(manifest.merged)
        raise UsageError(f"{store.url} is merged of {parts}: add the videos to one of these")
    if differences := config.differences(manifest.config):
        listed = "\n  ".join(differences)
        raise UsageError(
            f"{store.url} was built with another configuration:\n  {listed}\n"
            "Give the same settings to continue it, or another output folder"
        )
    return manifest


def write_plan(
    store: Store, files: Mapping[str, bytes], manifest: Manifest, inputs: str
) -> Manifest:
    """Write the plan's tables and what the manifest says of them; returns the manifest.

    Raises:
        DamagedDataset: the inputs were planned before, and the clips are not what was planned.
    """
    clips = sha256_of(files[CLIPS_FILE])
    again = manifest.inputs == inputs
    if again and manifest.tables.get(CLIPS_FILE) != clips:
        raise DamagedDataset(
            f"{store.at(*damaged_tables(store, manifest.tables)[:1])} is damaged or gone, and "
            "planning again gives other clips: the dataset has grown, or a version has changed. "
            "Bring the file back from a copy, or build a new dataset; the flow of this one is "
            "copied"
        )
    if not again:  # until the new plan stands, the tables may be of the old one or of the new
        write_manifest(store, replace(manifest, tables={}))
    for name, data in files.items():
        store.write(name, data)
    if not again:
        manifest = replace(manifest, inputs=inputs, tables={CLIPS_FILE: clips})
        write_manifest(store, manifest)
    return manifest


def shard_tasks(
    table: pa.Table, store: Store, config: BuildConfig, specs: tuple[FlowSpec, ...]
) -> list[ShardTask]:
    """One task for each shard of the clip table."""
    return [
        ShardTask(
            store=store,
            shard=shard,
            rows=table.filter(pc.field("shard") == shard),
            specs=specs,
            crf=config.crf,
        )
        for shard in table["shard"].unique().to_pylist()
    ]


def lost_clips(tasks: Sequence[ShardTask], failed: Mapping[str, str]) -> list[Reject]:
    """A reject for each clip of the shards that failed, given the error of each."""
    return [
        Reject(
            path=clip.path,
            sha256=clip.source_sha256,
            stage="build",
            reason="shard_failed",
            detail=f"clip {clip.key} is in shard {shard_name(task.shard)}, which failed: {error}",
        )
        for task in tasks
        if (error := failed.get(shard_name(task.shard))) is not None
        for clip in clips_of(task.rows)
    ]


def close_manifest(
    store: Store,
    tasks: Sequence[ShardTask],
    specs: Sequence[FlowSpec],
    rejects: Sequence[Reject],
    manifest: Manifest,
) -> tuple[int, list[Reject]]:
    """Write the complete list of rejects and the final manifest; what is recorded stays so.

    Returns the number of clips in the dataset and all rejects.

    Raises:
        DamagedDataset: a file is not what the manifest records.
    """
    shards, rejects = {}, list(rejects)
    for task in tasks:
        data = task.read_index(task.clips_stem)
        file = pq.ParquetFile(pa.BufferReader(data))
        clips = file.metadata.num_rows
        shards[shard_name(task.shard)] = Shard(clips=clips, sha256=sha256_of(data))
        rejects += [Reject(**row) for row in json.loads(file.schema_arrow.metadata[REJECTS_KEY])]
    if REJECTS_FILE not in manifest.tables or damaged_tables(store, manifest.tables):
        write_table(store, REJECTS_FILE, reject_table(rejects))
    if damaged := damaged_tables(store, manifest.tables):
        raise DamagedDataset(
            f"{store.at(damaged[0])} is not what the manifest records, and cannot be made again: "
            "bring it back from a copy, or build a new dataset; the flow of this one is copied"
        )
    layers = [stored_layer(tasks, spec) for spec in specs]
    tables = {name: sha256_of(store.read(name)) for name in (CLIPS_FILE, REJECTS_FILE)}
    closed = replace(
        manifest,
        state="complete",
        shards=shards,
        layers={layer.name: layer for layer in layers},
        tables=tables,
    )
    write_manifest(store, closed)
    return sum(shard.clips for shard in shards.values()), rejects
