"""The plan of a dataset from its inputs, and from what it holds already.

What a finished build has planned is settled: later inputs add shards. Until then a changed input
changes the plan, but for shards that are stored already.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, compress, count
from pathlib import PurePath
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from pipeline.planning.clip_plan import agrees, blocks, by_shard, without
from pipeline.planning.clip_table import accepted, clips_of_scans, users_columns
from pipeline.planning.plan_files import Plan, file_of, read_files, settled_files
from pipeline.planning.scans import Scans
from pipeline.records import Reject, Source
from shards import Manifest, Store, check_agreement, check_commit, read_table
from shards.manifest import canonical_json, sha256_of
from shards.schema import (
    CLIP_MEMBERS,
    CLIP_TABLE,
    Scalar,
    member_columns,
    shard_name,
    user_name,
)

_FILE_SHARDS = 64  # stored shards whose rows are put into one file


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """What a build is given, scanned.

    Attributes:
        sources: with their captions.
        scans: results of them and of others.
        places: of the result of each source in `scans`.
        rejects: inputs that there is no result of.
    """

    sources: Sequence[Source]
    scans: Scans
    places: Int64[np.ndarray, " sources"]
    rejects: Sequence[Reject]

    @property
    def contents(self) -> list[str | None]:
        """SHA-256 of each source; None where a video was refused without one."""
        return self.scans.contents(self.places)

    @property
    def digest(self) -> str:
        """Changes whenever the plan may: with paths, bytes, captions and columns."""
        told = [[s.path, s.caption, dict(s.columns)] for s in self.sources]
        lost = [[reject.path, reject.reason] for reject in self.rejects]
        return sha256_of(canonical_json([told, self.contents, lost]))

    def settled(self) -> Self:
        """The same, after the results were brought into the order of the sources."""
        self.scans.settle(self.places)
        return replace(self, places=np.arange(len(self.places)))

    def clips(self, numbers: Sequence[int]) -> Iterator[pa.Table]:
        """The clips of some of the sources."""
        sources = [self.sources[number] for number in numbers]
        return clips_of_scans(self.scans, self.places[numbers], sources)


def plan_anew(inputs: Inputs, per_shard: int) -> Plan:
    """The plan of a dataset of which nothing is settled or stored."""
    numbers, refused = accepted(inputs.scans, inputs.places, inputs.sources, {})
    tables = blocks(inputs.clips(numbers), per_shard, count())
    return Plan(settled={}, tables=tables, first=0, rejects=[*inputs.rejects, *refused])


def plan_on(inputs: Inputs, store: Store, manifest: Manifest, per_shard: int) -> Plan:
    """The plan of a dataset that may hold something already.

    What is settled stays. So do shards that are stored, even where today's inputs would not give
    them: then only what they do not hold is planned.

    Raises:
        UsageError: a column that held text when the dataset was planned holds numbers now, say.
        DamagedDataset: a file of the plan is not what the manifest records.
    """
    settled, gone = _without_replaced(inputs, store, manifest)
    check_new_columns(inputs.sources, store.url, read_files(store, settled))
    known, first = _planned(read_files(store, settled, ["source_sha256", "path", "shard"]))
    numbers, refused = accepted(inputs.scans, inputs.places, inputs.sources, known)
    stored = stored_shards(store, first)
    tables = blocks(inputs.clips(numbers), per_shard, count(first))
    if stored and holds(tables, store, stored):
        tables = blocks(inputs.clips(numbers), per_shard, count(first))
    elif stored:
        free = (number for number in count(first) if number not in stored)
        keys = {key for shard in stored for key in stored_rows(store, shard)["key"].to_pylist()}
        new = blocks(without(inputs.clips(numbers), keys), per_shard, free)
        tables = chain(_stored_files(store, sorted(stored)), new)
    before = chain(
        read_files(store, settled), (stored_rows(store, shard) for shard in sorted(stored))
    )
    return Plan(
        settled=settled,
        tables=tables,
        first=first,
        rejects=[*inputs.rejects, *refused, *gone],
        warnings=outdated(inputs.sources, before),
    )


def _without_replaced(
    inputs: Inputs, store: Store, manifest: Manifest
) -> tuple[dict[str, str], list[Reject]]:
    """The settled files, where shards that were never stored lose videos that are others now.

    And a reject for each such video.
    """
    now = dict(zip((source.path for source in inputs.sources), inputs.contents, strict=True))
    settled: dict[str, str] = {}
    gone: dict[str, Reject] = {}
    for number, (name, digest) in enumerate(settled_files(manifest).items()):
        (table,) = read_files(store, {name: digest})
        waits = [shard_name(shard) not in manifest.shards for shard in table["shard"].to_pylist()]
        videos = list(zip(*(table[c].to_pylist() for c in ("path", "source_sha256")), strict=True))
        lost = [
            wait and now.get(path, sha256) != sha256
            for wait, (path, sha256) in zip(waits, videos, strict=True)
        ]
        gone |= {path: _replaced(path, sha) for path, sha in compress(videos, lost)}
        if any(lost):
            name, digest, data = file_of(number, table.filter(pc.invert(pa.array(lost))))
            store.write(name, data)
        settled[name] = digest
    return settled, list(gone.values())


def _replaced(path: str, sha256: str) -> Reject:
    detail = "clips of what it held before were never stored: they could not be built"
    return Reject(path=path, sha256=sha256, stage="clips", reason="replaced", detail=detail)


def _planned(tables: Iterable[pa.Table]) -> tuple[dict[str, str], int]:
    """The path of each planned video by its SHA-256, and the first shard that is free."""
    known: dict[str, str] = {}
    first = 0
    for table in tables:
        known |= dict(zip(*(table[n].to_pylist() for n in ("source_sha256", "path")), strict=True))
        first = max(first, 1 + (pc.max(table["shard"]).as_py() or 0))
    return known, first


def stored_shards(store: Store, first: int) -> set[int]:
    """Shards that are whole, from `first` on; others are as if they were not there."""
    files = [PurePath(name) for name in store.files("clips")]
    shards = {int(file.stem) for file in files if file.suffix == ".parquet"}
    return {
        shard
        for shard in shards
        if shard >= first and not check_commit(store, f"clips/{shard_name(shard)}")
    }


def stored_rows(store: Store, shard: int) -> pa.Table:
    """The rows of a stored shard as they stand in a plan; those refused while building are gone."""
    table = read_table(store, f"clips/{shard_name(shard)}.parquet")
    places = member_columns(CLIP_MEMBERS).names
    return table.drop_columns(places).replace_schema_metadata(None)


def _stored_files(store: Store, shards: Sequence[int]) -> Iterator[pa.Table]:
    for start in range(0, len(shards), _FILE_SHARDS):
        rows = [stored_rows(store, shard) for shard in shards[start : start + _FILE_SHARDS]]
        yield pa.concat_tables(rows, promote_options="permissive").combine_chunks()


def holds(tables: Iterable[pa.Table], store: Store, stored: Collection[int]) -> bool:
    """Whether a plan has all stored shards as they are."""
    found = 0
    for shard, rows in chain.from_iterable(map(by_shard, tables)):
        if shard in stored:
            if not agrees(rows, stored_rows(store, shard)):
                return False
            found += 1
    return found == len(stored)


def check_new_columns(sources: Sequence[Source], url: str, planned: Iterable[pa.Table]) -> None:
    """UsageError if a column was text in what was planned and is numbers now, say.

    Args:
        url: of the dataset.
    """
    new = users_columns([source.columns for source in sources])
    if new.column_names:
        tables = ((url, table.select(_users(table))) for table in planned)
        check_agreement(chain(tables, [("the new inputs", new)]))


def _users(table: pa.Table) -> list[str]:
    return [name for name in table.column_names if name not in CLIP_TABLE.names]


def outdated(sources: Sequence[Source], planned: Iterable[pa.Table]) -> frozenset[str]:
    """Warnings of videos of which what was planned before tells another caption or other columns.

    These are part of the shard's bytes; what is not stored is planned with the new ones.
    """
    told = {source.path: source for source in sources}
    paths = {
        path
        for table in planned
        for path, caption, columns in _told(table)
        if path in told and (caption, columns) != _now(told[path])
    }
    return frozenset(
        f"{path}: its caption or columns have changed, but its clips are built: those that are "
        "stored stay. A new dataset takes the new ones, and copies the flow of this one"
        for path in paths
    )


def _told(table: pa.Table) -> Iterator[tuple[str, str, dict[str, Scalar]]]:
    """What one clip of each video tells, in the names of the index."""
    paths = np.asarray(table["path"].combine_chunks().dictionary_encode().indices)
    _, first = np.unique(paths, return_index=True)
    for row in table.select(["path", "caption", *_users(table)]).take(pa.array(first)).to_pylist():
        path, caption = row.pop("path"), row.pop("caption")
        yield path, caption, {name: value for name, value in row.items() if value is not None}


def _now(source: Source) -> tuple[str, dict[str, Scalar]]:
    given = source.columns.items()
    return source.caption or "", {user_name(name): v for name, v in given if v is not None}
