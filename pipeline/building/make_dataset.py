"""The build job: plan the clips, build the shards that are missing, close the manifest."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import PurePath

import pyarrow as pa
import pyarrow.parquet as pq
from distributed import Client

from flow_cache import FlowSpec
from flow_cache.reuse.catalog import Catalog
from pipeline.building.add_layer import stored_layer
from pipeline.building.costs import Costs
from pipeline.building.job import Outcome, build_shards
from pipeline.building.shard import REJECTS_KEY, ShardTask
from pipeline.planning.clip_plan import by_shard
from pipeline.planning.clip_table import reject_table, rejects_of_table
from pipeline.planning.config import BuildConfig, flow_specs
from pipeline.planning.plan_dataset import Inputs, plan_anew, plan_on
from pipeline.planning.plan_files import (
    damaged_tables,
    mend_plan,
    plan_files,
    read_files,
    write_plan,
)
from pipeline.planning.scan_all import scan_all
from pipeline.planning.scans import Scans
from pipeline.records import Progress, Reject, Source
from pipeline.source.inputs import with_sidecar_caption
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
    read_table,
    write_manifest,
    write_table,
)
from shards.manifest import sha256_of
from shards.merge import REJECTS_FILE
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
    scans = Scans(store, config.scan_settings)
    places, events = scan_all(sources, scans, config, client, partial(progress, "scan"))
    if events and not allow_failed:
        failed = {reject.path: reject.detail for reject in events.values()}
        return Outcome(inputs=len(sources) + len(missing), built=0, kept=0, failed=failed)
    scanned = [number for number in range(len(sources)) if number not in events]
    inputs = Inputs(
        sources=[with_sidecar_caption(sources[number]) for number in scanned],
        scans=scans,
        places=places[scanned],
        rejects=[*missing, *events.values()],
    )
    manifest, warnings = planned(inputs, store, manifest, config)
    rejects = planned_rejects(store)
    files = list(read_files(store, plan_files(manifest)))
    specs = tuple(FlowSpec.from_json(layer.spec) for layer in manifest.layers.values())
    tasks = [task.knowing(manifest.digests) for task in shard_tasks(files, store, config, specs)]
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


def planned(
    inputs: Inputs, store: Store, manifest: Manifest, config: BuildConfig
) -> tuple[Manifest, frozenset[str]]:
    """The manifest of a dataset whose inputs are planned, and whose plan is whole; and warnings.

    Raises:
        UsageError, DamagedDataset: see `make_dataset`.
    """
    damaged, digest = damaged_tables(store, manifest.tables), inputs.digest
    if damaged and manifest.inputs != digest:
        raise DamagedDataset(
            f"{store.at(damaged[0])} is damaged or gone: name the sources that the dataset was "
            "built from last, and no others, to have it made again, or bring it back from a copy"
        )
    if manifest.inputs == digest and not damaged:
        return manifest, frozenset()
    if damaged:
        plan = plan_anew(inputs, config.clips_per_shard)
        mend_plan(store, manifest, plan)
        write_rejects(store, plan.rejects)
        return manifest, frozenset()
    plan = plan_on(inputs.settled(), store, manifest, config.clips_per_shard)
    write_rejects(store, [*earlier_rejects(store, inputs), *plan.rejects])
    return write_plan(store, manifest, plan, digest), plan.warnings


def planned_rejects(store: Store) -> list[Reject]:
    """The rejects that were planned, without what was rejected while building shards."""
    rejects = rejects_of_table(read_table(store, REJECTS_FILE))
    return [reject for reject in rejects if reject.stage != "build"]


def earlier_rejects(store: Store, inputs: Inputs) -> list[Reject]:
    """Those of earlier builds whose files, or folders, are not among the inputs now."""
    if not store.exists(REJECTS_FILE):
        return []
    named = {item.path for item in (*inputs.sources, *inputs.rejects)}
    named |= {str(folder) for path in named for folder in PurePath(path).parents}  # now readable
    return [reject for reject in planned_rejects(store) if reject.path not in named]


def write_rejects(store: Store, rejects: Sequence[Reject]) -> None:
    write_table(store, REJECTS_FILE, reject_table(rejects))


def shard_tasks(
    files: Iterable[pa.Table], store: Store, config: BuildConfig, specs: tuple[FlowSpec, ...]
) -> list[ShardTask]:
    """One task for each shard of the plan."""
    return [
        ShardTask(
            store=store,
            shard=shard,
            rows=rows,
            specs=specs,
            crf=config.crf,
        )
        for table in files
        for shard, rows in by_shard(table)
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
        write_rejects(store, rejects)
    if damaged := damaged_tables(store, manifest.tables):
        raise DamagedDataset(
            f"{store.at(damaged[0])} is not what the manifest records, and cannot be made again: "
            "bring it back from a copy, or build a new dataset; the flow of this one is copied"
        )
    layers = [stored_layer(tasks, spec) for spec in specs]
    plan = plan_files(manifest)
    tables = {**plan, REJECTS_FILE: sha256_of(store.read(REJECTS_FILE))}
    closed = replace(
        manifest,
        state="complete",
        shards=shards,
        layers={layer.name: layer for layer in layers},
        tables=tables,
        settled=len(plan),
    )
    write_manifest(store, closed)
    return sum(shard.clips for shard in shards.values()), rejects
