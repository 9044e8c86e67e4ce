"""The files of a plan: which clip stands in which shard, never all held together.

    DATASET/plan/NNNNNN-DIGEST.parquet     rows of `CLIP_TABLE` and users' columns, by shard

A file is named after its content, so a new plan never overwrites one that the manifest names.
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

import pyarrow as pa

from flow_cache.reuse.superseded import supersede
from pipeline.planning.clip_plan import agrees, by_shard
from pipeline.records import Reject
from shards import (
    DamagedDataset,
    Manifest,
    Store,
    check_commit,
    read_index,
    read_table,
    table_bytes,
    write_manifest,
)
from shards.manifest import content_name, sha256_of
from shards.schema import CLIP_MEMBERS, member_columns, shard_name

PLAN = "plan"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """A plan that has been made but not written.

    Attributes:
        settled: SHA-256 of the files that stay, by name.
        tables: of the files that come after them.
        first: the first shard that they may hold.
        rejects: why inputs give no clips.
        warnings: a sentence for each video whose new caption or columns stay out of the dataset.
    """

    settled: Mapping[str, str]
    tables: Iterable[pa.Table]
    first: int
    rejects: Sequence[Reject]
    warnings: frozenset[str] = frozenset()


def plan_files(manifest: Manifest) -> dict[str, str]:
    """SHA-256 of the plan's files by name, in the order of their shards."""
    return {n: sha for n, sha in sorted(manifest.tables.items()) if n.startswith(f"{PLAN}/")}


def settled_files(manifest: Manifest) -> dict[str, str]:
    """Those that a finished build left."""
    return dict(list(plan_files(manifest).items())[: manifest.settled])


def read_files(
    store: Store, files: Mapping[str, str], columns: list[str] | None = None
) -> Iterator[pa.Table]:
    """The tables of some files, one by one.

    Raises:
        DamagedDataset: a file is gone or another.
    """
    return (read_index(store, name, digest, columns) for name, digest in files.items())


def file_of(number: int, table: pa.Table) -> tuple[str, str, bytes]:
    """Name, SHA-256 and bytes of a file of the plan."""
    data = table_bytes(table)
    return content_name(PLAN, number, data), sha256_of(data), data


def write_plan(store: Store, manifest: Manifest, plan: Plan, inputs: str) -> Manifest:
    """Write the files of a plan, then the manifest that names them, which is returned.

    What interrupted builds left of shards that are planned otherwise now is taken away before.
    """
    tables, stored, kept = dict(plan.settled), stored_shards(store, plan.first), set[int]()
    for number, table in enumerate(plan.tables, start=len(plan.settled)):
        name, digest, data = file_of(number, table)
        store.write(name, data)
        tables[name] = digest
        kept |= as_planned(store, stored, table)
    supersede(store, lambda shard: shard >= plan.first and shard not in kept)
    manifest = replace(manifest, inputs=inputs, tables=tables)
    write_manifest(store, manifest)
    for name in {*store.files(PLAN)} - tables.keys():
        store.delete(name)
    return manifest


def stored_shards(store: Store, first: int) -> set[int]:
    """Shards that are whole, from `first` on; others are as if they were not there."""
    files = [PurePath(name) for name in store.files("clips")]
    shards = {int(file.stem) for file in files if file.suffix == ".parquet"}
    return {
        shard
        for shard in shards
        if shard >= first and not check_commit(store, f"clips/{shard_name(shard)}")
    }


def as_planned(store: Store, stored: Container[int], table: pa.Table) -> set[int]:
    """Those stored shards that are what a block of a plan gives for them."""
    planned = ((shard, rows) for shard, rows in by_shard(table) if shard in stored)
    return {shard for shard, rows in planned if agrees(rows, stored_rows(store, shard))}


def stored_rows(store: Store, shard: int) -> pa.Table:
    """The rows of a stored shard as they stand in a plan; those refused while building are gone."""
    table = read_table(store, f"clips/{shard_name(shard)}.parquet")
    places = member_columns(CLIP_MEMBERS).names
    return table.drop_columns(places).replace_schema_metadata(None)


def mend_plan(store: Store, manifest: Manifest, plan: Plan) -> None:
    """Write files that are damaged or gone, from the plan made anew.

    Raises:
        DamagedDataset: that gives other clips than were planned.
    """
    files = plan_files(manifest)
    for number, table in enumerate(plan.tables):
        name, digest, data = file_of(number, table)
        if files.pop(name, None) != digest:
            break
        if digest_of(store, name) != digest:
            store.write(name, data)
    if files:
        raise DamagedDataset(
            f"{store.at(next(iter(files)))} is damaged or gone, and planning again gives other "
            "clips: the dataset has grown, or a version has changed. Bring the file back from a "
            "copy, or build a new dataset; the flow of this one is copied"
        )


def damaged_tables(store: Store, recorded: Mapping[str, str]) -> list[str]:
    """Those of the recorded tables that are gone or have another SHA-256."""
    return [name for name, digest in recorded.items() if digest_of(store, name) != digest]


def digest_of(store: Store, name: str) -> str | None:
    """SHA-256 of a file; None if it is absent."""
    try:
        return sha256_of(store.read(name))
    except FileNotFoundError:
        return None
