"""A table of clips as inputs of a plan: what a scan found, filtered and edited by the user."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from pipeline.planning.config import ScanConfig
from pipeline.planning.plan_dataset import Addition
from pipeline.planning.scan_all import event
from pipeline.records import Reject
from pipeline.source.content import content_sha256
from pipeline.source.files import file_state, states_of
from pipeline.source.given_clips import GivenClips
from shards import UsageError
from shards.manifest import canonical_json, sha256_of


@dataclass(frozen=True, kw_only=True, slots=True)
class TableInputs:
    """The clips of a table that was checked.

    Attributes:
        table: the clips.
        videos: SHA-256 of each video that can be read now, by path.
        rejects: the videos that cannot; their clips are left out.
    """

    table: GivenClips
    videos: Mapping[str, str | None]
    rejects: Sequence[Reject]

    @property
    def users(self) -> pa.Table:
        """Users' columns, without rows."""
        return self.table.users

    @property
    def digest(self) -> str:
        """Of the table's bytes, and of the videos that are left out."""
        lost = [[reject.path, reject.reason] for reject in self.rejects]
        return sha256_of(canonical_json([content_sha256(self.table.path), lost]))

    def besides(self, planned: Iterable[pa.Table]) -> Addition:
        """The clips whose keys are not planned yet."""
        keys = frozenset(key for table in planned for key in table["key"].to_pylist())
        return Addition(clips=partial(self._clips, keys), rejects=[])

    def _clips(self, known: frozenset[str] = frozenset()) -> Iterator[pa.Table]:
        lost = pa.array([reject.path for reject in self.rejects], pa.string())
        keys = pa.array(sorted(known), pa.string())
        for rows in self.table.batches():
            left_out = pc.or_(pc.is_in(rows["path"], lost), pc.is_in(rows["key"], keys))
            yield rows.filter(pc.invert(left_out))

    def outdated(self, planned: Iterable[pa.Table]) -> frozenset[str]:
        """Warnings of videos with clips that are planned in another form than the table's."""
        now: _Fingerprints | None = None
        changed: set[str] = set()
        for table in planned:
            now = now or _Fingerprints(self._clips())
            changed |= {row["path"] for row in table.to_pylist() if now.differ(row)}
        return frozenset(
            f"{path}: rows of its clips have changed in {self.table.path}, but these clips are "
            "built: those that are stored stay. A new dataset takes the new rows, and copies the "
            "flow of this one"
            for path in changed
        )


class _Fingerprints:
    """Which rows a table has, in 16 bytes for each."""

    def __init__(self, tables: Iterable[pa.Table]) -> None:
        pairs = [_hashes(row) for table in tables for row in table.to_pylist()]
        hashes = np.array(pairs, np.int64).reshape(-1, 2)
        self._keys, self._rows = hashes[np.argsort(hashes[:, 0])].T

    def differ(self, row: dict) -> bool:
        """Whether the table has the row's key, but in another row."""
        key, rest = _hashes(row)
        place = int(np.searchsorted(self._keys, key))
        return place < len(self._keys) and self._keys[place] == key and self._rows[place] != rest


def _hashes(row: dict) -> tuple[int, int]:
    """Of a row's key, and of all that it tells; a dataset's rows have nulls where others do not."""
    told = {name: row[name] for name in sorted(row) if name != "shard" and row[name] is not None}
    return hash(row["key"]), hash(repr(told))


def table_inputs(table: GivenClips, config: ScanConfig) -> tuple[TableInputs, dict[str, str]]:
    """The clips of a table, and why those of other videos cannot be had now, by path.

    Memory is that of the videos' paths and digests, and 8 bytes for each clip.

    Raises:
        UsageError: a row is no clip of the configuration's size and length, two have the same key,
            or one video is listed with two contents.
    """
    videos: dict[str, str] = {}
    keys: list[Int64[np.ndarray, " rows"]] = []
    for rows in table.check(config.size, config.frames):
        keys.append(np.fromiter(map(hash, rows["key"].to_pylist()), np.int64, len(rows)))
        pairs = rows.select(["path", "source_sha256"]).group_by(["path", "source_sha256"])
        for path, sha256 in zip(*pairs.aggregate([]).to_pydict().values(), strict=True):
            if videos.setdefault(path, sha256) != sha256:
                raise UsageError(
                    f"{table.path} lists {path} with two contents, SHA-256 {videos[path][:12]}… "
                    f"and {sha256[:12]}…: keep the rows of the file that is there now"
                )
    if not keys:
        raise UsageError(f"{table.path} has no rows: there is nothing to build")
    check_unique(table, np.concatenate(keys))
    paths = list(videos)
    gone = [p for p, state in zip(paths, states_of(paths), strict=True) if state is None]
    rejects = [absence for path in gone for absence in _absence(path)]
    for reject in rejects:
        del videos[reject.path]
    inputs = TableInputs(table=table, videos=videos, rejects=rejects)
    return inputs, {reject.path: reject.detail for reject in rejects}


def _absence(path: str) -> list[Reject]:
    """The event of a file that cannot be looked at; none if it can be after all."""
    try:
        file_state(path)
    except OSError as error:
        return [event(path, error)]
    return []


def check_unique(table: GivenClips, hashes: Int64[np.ndarray, " clips"]) -> None:
    """UsageError if two rows have the same key.

    Args:
        hashes: of the keys, in the order of the rows.
    """
    ordered = np.sort(hashes)
    suspects = {*ordered[1:][ordered[1:] == ordered[:-1]].tolist()}
    if not suspects:
        return
    seen: dict[str, int] = {}
    row = 0
    for rows in table.batches():
        for key in rows["key"].to_pylist():
            row += 1
            if hash(key) in suspects and seen.setdefault(key, row) != row:
                raise UsageError(
                    f"{table.path}, rows {seen[key]} and {row}: both have the key {key!r}; a key "
                    "names one clip. Drop one, or give a clip that is wanted twice another key"
                )
