"""The plan of a dataset: a pure function of its inputs, and of what is settled.

What a finished build has planned is settled: later inputs add shards. Until then a changed input
changes the plan, and what is stored of another one is built again (`write_plan`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, compress, count
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.planning.clip_plan import blocks
from pipeline.planning.clip_table import users_of
from pipeline.planning.plan_files import Plan, file_of, read_files, settled_files
from pipeline.records import Reject
from shards import Manifest, Store, check_agreement
from shards.schema import shard_name

KNOWN_BY = ["key", "path", "source_sha256"]  # columns that tell which clips are planned


class Inputs(Protocol):
    """Clips to plan, whatever they come from: videos that were scanned, or a table of clips."""

    @property
    def videos(self) -> Mapping[str, str | None]:
        """SHA-256 of each video by path; None where one was refused without."""

    @property
    def rejects(self) -> Sequence[Reject]:
        """Inputs that there is no result of."""

    @property
    def users(self) -> pa.Table:
        """Users' columns, of all clips or videos."""

    @property
    def digest(self) -> str:
        """Changes whenever the plan may."""

    def besides(self, planned: Iterable[pa.Table]) -> "Addition":
        """The clips that are not planned yet.

        Args:
            planned: key, path and source_sha256 of those that are.
        """

    def outdated(self, planned: Iterable[pa.Table]) -> frozenset[str]:
        """Warnings of videos whose clips are planned in another form than they have now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Addition:
    """Clips to plan.

    Attributes:
        clips: their tables but for the column `shard`, in order, as often as it is called.
        rejects: of those that are not among them.
    """

    clips: Callable[[], Iterator[pa.Table]]
    rejects: Sequence[Reject]


def plan_anew(inputs: Inputs, per_shard: int) -> Plan:
    """The plan of a dataset of which nothing is settled."""
    new = inputs.besides([])
    tables = blocks(new.clips(), per_shard, count())
    return Plan(settled={}, tables=tables, first=0, rejects=[*inputs.rejects, *new.rejects])


def plan_on(inputs: Inputs, store: Store, manifest: Manifest, per_shard: int) -> Plan:
    """The plan of a dataset of which something may be settled: that stays, the rest comes after.

    Whatever else is stored, the plan does not depend on it.

    Raises:
        UsageError: a column that held text when the dataset was planned holds numbers now, say.
        DamagedDataset: a file of the plan is not what the manifest records.
    """
    settled, gone = _without_replaced(inputs, store, manifest)
    check_new_columns(inputs.users, store.url, read_files(store, settled))
    first = first_free(read_files(store, settled, ["shard"]))
    new = inputs.besides(read_files(store, settled, KNOWN_BY))
    return Plan(
        settled=settled,
        tables=blocks(new.clips(), per_shard, count(first)),
        first=first,
        rejects=[*inputs.rejects, *new.rejects, *gone],
        warnings=inputs.outdated(read_files(store, settled)),
    )


def _without_replaced(
    inputs: Inputs, store: Store, manifest: Manifest
) -> tuple[dict[str, str], list[Reject]]:
    """The settled files, where shards that were never stored lose videos that are others now.

    And a reject for each such video.
    """
    now = inputs.videos
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


def first_free(tables: Iterable[pa.Table]) -> int:
    """The first shard that comes after all of some tables."""
    return max((1 + (pc.max(table["shard"]).as_py() or 0) for table in tables), default=0)


def check_new_columns(new: pa.Table, url: str, planned: Iterable[pa.Table]) -> None:
    """UsageError if a column was text in what was planned and is numbers now, say.

    Args:
        new: users' columns of the inputs.
        url: of the dataset.
    """
    if new.column_names:
        tables = ((url, table.select(users_of(table))) for table in planned)
        check_agreement(chain(tables, [("the new inputs", new)]))
