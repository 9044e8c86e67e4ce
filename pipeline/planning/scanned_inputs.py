"""Videos that were scanned, as inputs of a plan."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int64

from pipeline.planning.clip_plan import regroup
from pipeline.planning.clip_table import (
    accepted,
    clips_of_scans,
    reject_table,
    users_columns,
    users_of,
)
from pipeline.planning.config import ScanConfig
from pipeline.planning.plan_dataset import Addition
from pipeline.planning.scans import FOLDER, Scans
from pipeline.records import Reject, Source
from pipeline.source.given_clips import BATCH, CLIPS_FILE, CONFIG_KEY, OURS
from shards import Store, UsageError, write_table
from shards.index import REJECTS_FILE
from shards.manifest import canonical_json, sha256_of
from shards.schema import Scalar, user_name


@dataclass(frozen=True, kw_only=True, slots=True)
class ScannedInputs:
    """The sources of a build, scanned.

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
    def videos(self) -> dict[str, str | None]:
        """SHA-256 of each source by path; None where a video was refused without one."""
        paths = (source.path for source in self.sources)
        return dict(zip(paths, self.scans.contents(self.places), strict=True))

    @property
    def users(self) -> pa.Table:
        """Users' columns, a row for each source."""
        return users_columns([source.columns for source in self.sources])

    @property
    def digest(self) -> str:
        """Changes whenever the plan may: with paths, bytes, captions and columns."""
        told = [[s.path, s.caption, dict(s.columns)] for s in self.sources]
        lost = [[reject.path, reject.reason] for reject in self.rejects]
        return sha256_of(canonical_json([told, self.scans.contents(self.places), lost]))

    def settled(self) -> Self:
        """The same, after the results were brought into the order of the sources."""
        self.scans.settle(self.places)
        return replace(self, places=np.arange(len(self.places)))

    def besides(self, planned: Iterable[pa.Table]) -> Addition:
        """The clips of videos that are not planned yet; of those that are, all clips are."""
        known: dict[str, str] = {}
        for table in planned:
            known |= dict(zip(*(table[n].to_pylist() for n in _VIDEO), strict=True))
        numbers, refused = accepted(self.scans, self.places, self.sources, known)
        return Addition(clips=partial(self._clips, numbers), rejects=refused)

    def _clips(self, numbers: Sequence[int]) -> Iterator[pa.Table]:
        sources = [self.sources[number] for number in numbers]
        return clips_of_scans(self.scans, self.places[numbers], sources)

    def outdated(self, planned: Iterable[pa.Table]) -> frozenset[str]:
        """Warnings of videos of which what was planned tells another caption or other columns."""
        return outdated(self.sources, planned)


_VIDEO = ("source_sha256", "path")


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
    for row in (
        table.select(["path", "caption", *users_of(table)]).take(pa.array(first)).to_pylist()
    ):
        path, caption = row.pop("path"), row.pop("caption")
        yield path, caption, {name: value for name, value in row.items() if value is not None}


def _now(source: Source) -> tuple[str, dict[str, Scalar]]:
    given = source.columns.items()
    return source.caption or "", {user_name(name): v for name, v in given if v is not None}


def write_scan(store: Store, inputs: ScannedInputs, config: ScanConfig) -> tuple[int, list[Reject]]:
    """Write all clips as one table, in the order of the inputs, and the rejects; streamed.

    Returns the number of clips, and the rejects.
    """
    new = inputs.besides([])
    schema = pa.schema([*OURS, *inputs.users.schema])
    schema = schema.with_metadata({CONFIG_KEY: canonical_json(config.to_json())})
    rejects = [*inputs.rejects, *new.rejects]
    write_table(store, REJECTS_FILE, reject_table(rejects))
    clips = 0
    with (
        store.publish(CLIPS_FILE) as file,
        pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer,
    ):
        for table in regroup(new.clips(), BATCH):
            writer.write_table(table)
            clips += len(table)
    return clips, rejects


def check_folder(store: Store) -> None:
    """UsageError unless a store is empty, or holds a scan and nothing else."""
    if not all(map(_is_of_scan, store.files())):
        raise UsageError(
            f"{store.url} is not empty and holds no dataset; give a new folder for the output"
        )


def _is_of_scan(name: str) -> bool:
    return name in (CLIPS_FILE, REJECTS_FILE) or name.startswith(f"{FOLDER}/")
