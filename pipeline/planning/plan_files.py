"""The files of a plan: which clip stands in which shard, never all held together.

    DATASET/plan/NNNNNN-DIGEST.parquet     rows of `CLIP_TABLE` and users' columns, by shard

A file is named after its content, so a new plan never overwrites one that the manifest names.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

import pyarrow as pa

from pipeline.planning.clip_plan import by_shard
from pipeline.records import Reject
from shards import (
    DamagedDataset,
    Manifest,
    Store,
    read_index,
    table_bytes,
    write_manifest,
)
from shards.manifest import sha256_of

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
    return f"{PLAN}/{number:06d}-{sha256_of(data)[:16]}.parquet", sha256_of(data), data


def write_plan(store: Store, manifest: Manifest, plan: Plan, inputs: str) -> Manifest:
    """Write the files of a plan, then the manifest that names them, which is returned.

    What interrupted builds left of shards that are not planned any more is deleted.
    """
    tables, planned = dict(plan.settled), set()
    for number, table in enumerate(plan.tables, start=len(plan.settled)):
        name, digest, data = file_of(number, table)
        store.write(name, data)
        tables[name] = digest
        planned |= {shard for shard, _ in by_shard(table)}
    _forget(store, lambda shard: shard >= plan.first and shard not in planned)
    manifest = replace(manifest, inputs=inputs, tables=tables)
    write_manifest(store, manifest)
    for name in {*store.files(PLAN)} - tables.keys():
        store.delete(name)
    return manifest


def _forget(store: Store, is_gone: Callable[[int], bool]) -> None:
    """Delete the files of shards."""
    for folder in ("clips", "flow"):
        for file in store.files(folder):
            if is_gone(int(PurePath(file).stem)):
                store.delete(file)


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
