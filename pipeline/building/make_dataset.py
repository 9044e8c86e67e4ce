"""The build job: plan the clips, build the shards that are missing, close the manifest."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import PurePath

from distributed import Client

from flow_cache import FlowSpec
from flow_cache.reuse.catalog import Catalog
from pipeline.building.add_layer import stored_layer
from pipeline.building.commits import Commit
from pipeline.building.costs import Costs
from pipeline.building.job import Outcome, build_shards
from pipeline.building.shard import PlannedShards
from pipeline.building.task import Shards
from pipeline.planning.clip_table import reject_table, rejects_of_table
from pipeline.planning.config import BuildConfig, flow_specs
from pipeline.planning.plan_dataset import Inputs, plan_anew, plan_on
from pipeline.planning.plan_files import (
    damaged_tables,
    mend_plan,
    plan_files,
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
        allow_failed: plan without the inputs that cannot be read now, and close the dataset
            without the shards that failed. These inputs and clips stand in the rejects; a later
            build tries them again.

    Raises:
        UsageError: the store holds a dataset of another configuration, or something else; or an
            estimator here is not the one that made the dataset's flow.
        DamagedDataset: a file is not what the manifest records and cannot be made again.
    """
    manifest = open_manifest(store, config)
    store.remove_unfinished()
    scans = Scans(store, config.scan_settings)
    places, events = scan_all(sources, scans, config, client, partial(progress, "scan"))
    unscanned = {reject.path: reject.detail for reject in events.values()}
    if unscanned and not allow_failed:
        return Outcome(inputs=len(sources) + len(missing), unscanned=unscanned)
    scanned = [number for number in range(len(sources)) if number not in events]
    inputs = Inputs(
        sources=[with_sidecar_caption(sources[number]) for number in scanned],
        scans=scans,
        places=places[scanned],
        rejects=[*missing, *events.values()],
    ).settled()
    manifest, warnings = planned(inputs, store, manifest, config)
    rejects = planned_rejects(store)
    specs = tuple(FlowSpec.from_json(layer.spec) for layer in manifest.layers.values())
    shards = PlannedShards(store, manifest, specs, config.crf)
    outcome = build_shards(shards, client, partial(progress, "build"), catalog)
    costs = outcome.costs + Costs(warnings=warnings)
    outcome = replace(
        outcome,
        inputs=len(sources) + len(missing),
        unscanned=unscanned,
        rejects=rejects,
        costs=costs,
    )
    if outcome.failed:
        scans.forget(outcome.changed)
        if not allow_failed:
            return outcome
        rejects = rejects + lost_clips(shards, outcome.failed)
    if {shard_name(shard) for shard in outcome.commits} != manifest.shards.keys():
        # Clips that are missing for now, or are not any more, are among the rejects.
        tables = {name: sha for name, sha in manifest.tables.items() if name != REJECTS_FILE}
        manifest = replace(manifest, tables=tables)
    in_order = sorted(outcome.commits.items())
    rejects = rejects + [reject for _, commit in in_order for reject in commit.rejects]
    clips = close_manifest(store, outcome.commits, specs, rejects, manifest)
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
    if "clips.parquet" in manifest.tables:
        raise UsageError(
            f"{store.url} was planned by an earlier version: it can be read, but not continued. "
            "Build a new dataset; the flow of this one is copied"
        )
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
    plan = plan_on(inputs, store, manifest, config.clips_per_shard)
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
    named = {source.path for source in inputs.sources}
    named |= {reject.path for reject in inputs.rejects}
    named |= {str(folder) for path in named for folder in PurePath(path).parents}  # now readable
    return [reject for reject in planned_rejects(store) if reject.path not in named]


def write_rejects(store: Store, rejects: Sequence[Reject]) -> None:
    write_table(store, REJECTS_FILE, reject_table(rejects))


def lost_clips(shards: Shards, failed: Mapping[str, str]) -> list[Reject]:
    """A reject for each clip of the shards that failed, given the error of each."""
    return [
        Reject(
            path=clip.path,
            sha256=clip.source_sha256,
            stage="build",
            reason="shard_failed",
            detail=f"clip {clip.key} is in shard {name}, which failed: {failed[name]}",
        )
        for task in shards.tasks({int(name) for name in failed})
        for name in [shard_name(task.shard)]
        for clip in clips_of(task.rows)
    ]


def close_manifest(
    store: Store,
    commits: Mapping[int, Commit],
    specs: Sequence[FlowSpec],
    rejects: Sequence[Reject],
    manifest: Manifest,
) -> int:
    """Write the complete list of rejects and the final manifest; what is recorded stays so.

    Returns the number of clips in the dataset.

    Raises:
        DamagedDataset: the rejects are not what the manifest records.
    """
    if REJECTS_FILE not in manifest.tables or damaged_tables(store, manifest.tables):
        write_rejects(store, rejects)
    if damaged := damaged_tables(store, manifest.tables):
        raise DamagedDataset(
            f"{store.at(damaged[0])} is not what the manifest records, and cannot be made again: "
            "bring it back from a copy, or build a new dataset; the flow of this one is copied"
        )
    layers = [stored_layer(commits, spec) for spec in specs]
    plan = plan_files(manifest)
    closed = replace(
        manifest,
        state="complete",
        shards={shard_name(shard): stored_shard(commits[shard]) for shard in sorted(commits)},
        layers={layer.name: layer for layer in layers},
        tables={**plan, REJECTS_FILE: sha256_of(store.read(REJECTS_FILE))},
        settled=len(plan),
    )
    write_manifest(store, closed)
    return sum(commit.clips for commit in commits.values())


def stored_shard(commit: Commit) -> Shard:
    """The manifest's entry of a shard."""
    (digest,) = (sha for stem, sha in commit.digests.items() if stem.startswith("clips/"))
    return Shard(clips=commit.clips, sha256=digest)
