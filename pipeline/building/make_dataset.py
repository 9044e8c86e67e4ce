"""The build job: plan the clips, build the shards that are missing, close the manifest."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from distributed import Client

from flow_cache import FlowSpec
from flow_cache.reuse.catalog import Catalog
from flow_cache.reuse.superseded import superseded_flow
from pipeline.building.closing import (
    close_manifest,
    earlier_rejects,
    lost_clips,
    planned_rejects,
    write_rejects,
)
from pipeline.building.costs import Costs
from pipeline.building.job import Outcome, build_shards
from pipeline.building.shard import PlannedShards
from pipeline.makers import mixtures
from pipeline.planning.config import BuildConfig, flow_specs
from pipeline.planning.plan_dataset import Inputs, plan_anew, plan_on
from pipeline.planning.plan_files import damaged_tables, mend_plan, write_plan
from pipeline.planning.scan_all import scan_inputs
from pipeline.planning.scanned_inputs import ScannedInputs, check_folder
from pipeline.planning.table_inputs import TableInputs, table_inputs
from pipeline.records import Progress, Reject, Source
from pipeline.source.clip_frames import RESCAN
from pipeline.source.given_clips import GivenClips
from shards import (
    DamagedDataset,
    Layer,
    Manifest,
    NoDataset,
    Store,
    UsageError,
    read_manifest,
    write_manifest,
)
from shards.index import REJECTS_FILE
from shards.schema import shard_name

Given = GivenClips | tuple[Sequence[Source], Sequence[Reject]]
NEW_TABLE = "bring that back, or scan it again and take its clips from the new table"


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
    build = Build(store=store, config=config, client=client, progress=progress, catalog=catalog)
    return build.make((sources, missing), allow_failed=allow_failed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Build:
    """A build of a dataset, from videos or from a table of clips; see `make_dataset`."""

    store: Store
    config: BuildConfig
    client: Client
    progress: Progress
    catalog: Catalog | None = None

    def take(self, given: Given) -> tuple[ScannedInputs | TableInputs, dict[str, str]]:
        """What is given as inputs of a plan, and why some of it cannot be had now, by path.

        Raises:
            UsageError: a row of a table is no clip that can be built here.
        """
        if isinstance(given, GivenClips):
            return table_inputs(given, self.config)
        return scan_inputs(*given, self.store, self.config, self.client, self.progress)

    def make(self, given: Given, *, allow_failed: bool = False) -> Outcome:
        """Make the dataset, or continue it."""
        # A table is refused before there is a manifest, which would hold on to the settings.
        taken = self.take(given) if isinstance(given, GivenClips) else None
        manifest = open_manifest(self.store, self.config)
        self.store.remove_unfinished()
        inputs, lost = taken or self.take(given)
        videos = len(inputs.videos) + len(inputs.rejects)
        if lost and not allow_failed:
            return Outcome(inputs=videos, unscanned=lost)
        outcome = self._of(inputs, manifest, allow_failed=allow_failed)
        if outcome.failed and isinstance(inputs, ScannedInputs):
            inputs.scans.forget(outcome.changed)
        return replace(outcome, inputs=videos, unscanned=lost)

    def _of(
        self, inputs: ScannedInputs | TableInputs, manifest: Manifest, *, allow_failed: bool
    ) -> Outcome:
        """Plan the inputs, build what is missing and close the dataset."""
        store, remedy = self.store, RESCAN if isinstance(inputs, ScannedInputs) else NEW_TABLE
        manifest, warnings = planned(inputs, store, manifest, self.config)
        rejects = planned_rejects(store)
        specs = tuple(FlowSpec.from_json(layer.spec) for layer in manifest.layers.values())
        shards = PlannedShards(store, manifest, specs, self.config.crf, remedy)
        catalogs = superseded_flow(store, specs), self.catalog
        outcome = build_shards(shards, self.client, partial(self.progress, "build"), *catalogs)
        costs = outcome.costs + Costs(warnings=warnings)
        outcome = replace(outcome, rejects=rejects, costs=costs)
        if outcome.failed:
            if not allow_failed:
                return outcome
            rejects = rejects + lost_clips(shards, outcome.failed)
        if {shard_name(shard) for shard in outcome.commits} != manifest.shards.keys():
            # Clips that are missing for now, or are not any more, are among the rejects.
            tables = {name: sha for name, sha in manifest.tables.items() if name != REJECTS_FILE}
            manifest = replace(manifest, tables=tables)
        in_order = sorted(outcome.commits.items())
        rejects = rejects + [reject for _, commit in in_order for reject in commit.rejects]
        manifest = close_manifest(store, outcome.commits, specs, rejects, manifest)
        clips = sum(shard.clips for shard in manifest.shards.values())
        costs = outcome.costs + Costs(warnings=mixtures(manifest))
        outcome = replace(outcome, clips=clips, rejects=rejects, costs=costs)
        return outcome.registered(self.catalog, store)


def open_manifest(store: Store, config: BuildConfig) -> Manifest:
    """The manifest of a dataset, started if there is none.

    Raises:
        UsageError: see `make_dataset`; the message names what differs.
    """
    if found := found_manifest(store, config):
        return found
    layers = [Layer(name=spec.layer, spec=spec.to_json()) for spec in flow_specs(config)]
    manifest = Manifest(
        state="building",
        config=config.to_json(),
        layers={layer.name: layer for layer in layers},
    )
    write_manifest(store, manifest)
    return manifest


def found_manifest(store: Store, config: BuildConfig) -> Manifest | None:
    """The manifest of a dataset that can be continued; None if there is none, but room for one.

    Raises:
        UsageError: see `make_dataset`; the message names what differs.
    """
    try:
        manifest = read_manifest(store)
    except NoDataset:
        check_folder(store)
        return None
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
    earlier = earlier_rejects(store, inputs) if manifest.state == "complete" else []
    write_rejects(store, [*earlier, *plan.rejects])
    return write_plan(store, manifest, plan, digest), plan.warnings
