"""The end of a build: every refusal in one list, and the manifest that closes the dataset."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath

from flow_cache import FlowSpec
from flow_cache.reuse.superseded import SUPERSEDED
from pipeline.building.add_layer import stored_layer
from pipeline.building.commits import Commit
from pipeline.building.task import Shards
from pipeline.makers import forget, with_makers
from pipeline.planning.clip_table import reject_table, rejects_of_table
from pipeline.planning.plan_dataset import Inputs
from pipeline.planning.plan_files import damaged_tables, plan_files
from pipeline.records import Reject
from shards import (
    DamagedDataset,
    Manifest,
    Shard,
    Store,
    clips_of,
    read_table,
    write_manifest,
    write_table,
)
from shards.index import REJECTS_FILE
from shards.manifest import sha256_of
from shards.schema import shard_name


def planned_rejects(store: Store) -> list[Reject]:
    """The rejects that were planned, without what was rejected while building shards."""
    rejects = rejects_of_table(read_table(store, REJECTS_FILE))
    return [reject for reject in rejects if reject.stage != "build"]


def earlier_rejects(store: Store, inputs: Inputs) -> list[Reject]:
    """Those of earlier builds whose files, or folders, are not among the inputs now."""
    if not store.exists(REJECTS_FILE):
        return []
    named = {*inputs.videos} | {reject.path for reject in inputs.rejects}
    named |= {str(folder) for path in named for folder in PurePath(path).parents}  # now readable
    return [reject for reject in planned_rejects(store) if reject.path not in named]


def write_rejects(store: Store, rejects: Sequence[Reject]) -> None:
    """Write `rejects.parquet`."""
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
) -> Manifest:
    """Write the complete list of rejects and the final manifest; what is recorded stays so.

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
        with_makers(store, manifest),
        state="complete",
        shards={shard_name(shard): stored_shard(commits[shard]) for shard in sorted(commits)},
        layers={layer.name: layer for layer in layers},
        tables={**plan, REJECTS_FILE: sha256_of(store.read(REJECTS_FILE))},
        settled=len(plan),
    )
    write_manifest(store, closed)
    store.delete_folder(SUPERSEDED)
    forget(store)
    return closed


def stored_shard(commit: Commit) -> Shard:
    """The manifest's entry of a shard."""
    (digest,) = (sha for stem, sha in commit.digests.items() if stem.startswith("clips/"))
    return Shard(clips=commit.clips, sha256=digest)
