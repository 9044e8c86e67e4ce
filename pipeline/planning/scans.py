"""Results of scans, kept for each video beside the dataset, so that none is decoded twice.

    DATASET/scans/NNNNNN-DIGEST.parquet     some videos each, a row for each: `SCANNED`

A result is found by the video's path and state, or by its bytes: a file that was only touched,
moved or renamed is recognised. It is a cache: a part that is damaged, or of other settings, is as
if it were not there.
"""

import time
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Int64

from pipeline.planning.clips import clip_key
from pipeline.planning.scan import Scan
from pipeline.records import Reject
from pipeline.source.files import FileState
from shards import Store, table_bytes
from shards.manifest import content_name, is_named_after
from shards.schema import CLIP_TABLE

FOLDER = "scans"
_OF_SOURCE = ("shard", "caption")  # columns of the clip table that a scan says nothing of
_CLIP = pa.struct([field for field in CLIP_TABLE if field.name not in _OF_SOURCE])
SCANNED = pa.schema(
    {
        "path": pa.string(),
        "size": pa.int64(),  # bytes
        "state": pa.string(),  # `FileState` as text
        "source_sha256": pa.string(),
        "stage": pa.string(),  # this and the next two: of a video that was refused
        "reason": pa.string(),
        "detail": pa.string(),
        "clips": pa.list_(_CLIP),
    }
)
_INDEX = ["path", "size", "state", "source_sha256"]
_SETTINGS = b"settings"
_PART_SECONDS = 30.0  # a part is written after so long
_PART_ROWS, _PART_CLIPS = 1024, 16_384  # or so many videos, or so many clips of them


def of_state(state: FileState) -> dict[str, int | str]:
    """The columns that tell a file's state."""
    return {"size": state.size, "state": str(state)}


def scanned(scan: Scan, state: FileState) -> pa.Table:
    """The row of one video, of a file in some state."""
    row: dict[str, Any]
    if isinstance(scan, Reject):
        row = {"path": scan.path, "source_sha256": scan.sha256, "stage": scan.stage}
        row |= {"reason": scan.reason, "detail": scan.detail, "clips": []}
    else:
        video, clips = scan
        row = {"path": video.path, "source_sha256": video.sha256}
        row["clips"] = [clip.to_row(0) for clip in clips]
    return pa.Table.from_pylist([row | of_state(state)], schema=SCANNED)


def moved(row: pa.Table, path: str, state: FileState) -> pa.Table:
    """The row of a video, for the same bytes under another path or in another state."""
    (facts,) = row.to_pylist()
    facts |= {"path": path, **of_state(state)}
    for number, clip in enumerate(facts["clips"]):
        clip |= {"path": path, "key": clip_key(path, clip["source_sha256"], number)}
    return pa.Table.from_pylist([facts], schema=SCANNED)


class Scans:
    """The results that a store holds, and new ones.

    Memory is that of paths, states and digests, and of a few parts.

    Args:
        settings: all that decides a result but the video; results of other settings do not count.
    """

    def __init__(self, store: Store, settings: str) -> None:
        self._store, self._settings = store, settings.encode()
        self._names: list[str] = []
        self._indices: list[pa.Table] = []  # of each part
        self._waiting: list[pa.Table] = []
        self._clips = 0  # of those that wait
        self._written = time.monotonic()
        self._read = lru_cache(maxsize=4)(self._read_part)
        for name in store.files(FOLDER):
            index = _sound_index(store, name)
            if index is not None and index.schema.metadata.get(_SETTINGS) == self._settings:
                self._names.append(name)
                self._indices.append(index)

    def __len__(self) -> int:
        return sum(map(len, self._indices))

    def places(self, files: Sequence[tuple[str, str]]) -> Int64[np.ndarray, " files"]:
        """Where the result of each (path, state) is; -1 if there is none."""
        return self._last(["path", "state"], ["\0".join(file) for file in files])

    def with_bytes(self, digests: Sequence[str]) -> Int64[np.ndarray, " digests"]:
        """Where a result of a video with each SHA-256 is; -1 if there is none."""
        return self._last(["source_sha256"], digests)

    def _last(self, columns: list[str], wanted: Sequence[str]) -> np.ndarray:
        if not self._indices:
            return np.full(len(wanted), -1, np.int64)
        index = pa.concat_tables(self._indices).combine_chunks()
        known = pc.binary_join_element_wise(*(index[name] for name in columns), "\0")
        latest_first = known.take(pa.array(np.arange(len(known))[::-1]))
        found = pc.index_in(pa.array(wanted, pa.string()), value_set=latest_first)
        found = found.cast(pa.int64()).fill_null(len(known))
        return len(known) - 1 - found.to_numpy(zero_copy_only=False)

    def of_size(self, sizes: Collection[int]) -> dict[int, frozenset[str]]:
        """SHA-256 of the videos of each size, in bytes, that there is a result of."""
        found: dict[int, set[str]] = {}
        for index in self._indices:
            known = index.filter(pc.is_in(index["size"], pa.array(list(sizes), pa.int64())))
            for size, sha256 in zip(*known.select(["size", "source_sha256"]), strict=True):
                found.setdefault(size.as_py(), set()).add(sha256.as_py())
        return {size: frozenset(digests - {None}) for size, digests in found.items()}

    def contents(self, places: Int64[np.ndarray, " n"]) -> list[str | None]:
        """SHA-256 of the video at each of some places; None where it was refused without one."""
        if not len(places):
            return []
        digests = pa.concat_tables(self._indices)["source_sha256"]
        return digests.take(pa.array(places)).to_pylist()

    def chunks(self, places: Int64[np.ndarray, " n"], most: int) -> Iterator[np.ndarray]:
        """Places in order, so many at a time, and fewer where videos have many clips."""
        if not len(places):
            return
        clips = pa.concat_tables(self._indices)["count"].to_numpy()[places]
        ends, start = np.cumsum(clips), 0
        while start < len(places):
            full = ends[start] - clips[start] + _PART_CLIPS
            stop = int(np.searchsorted(ends, full, side="right"))
            stop = min(max(stop, start + 1), start + most)
            yield places[start:stop]
            start = stop

    def rows(self, places: Int64[np.ndarray, " n"]) -> pa.Table:
        """The results at some places, in their order; `SCANNED`."""
        ends = np.cumsum([len(index) for index in self._indices])
        parts = np.searchsorted(ends, places, side="right")
        found, order = [SCANNED.empty_table()], []
        for part in np.unique(parts).tolist():
            (which,) = np.nonzero(parts == part)
            first = ends[part] - len(self._indices[part])
            found.append(self._read(self._names[part]).take(pa.array(places[which] - first)))
            order += which.tolist()
        return pa.concat_tables(found).take(pa.array(np.argsort(order), pa.int64()))

    def _read_part(self, name: str) -> pa.Table:
        return pq.read_table(pa.BufferReader(self._store.read(name))).cast(SCANNED)

    def add(self, row: pa.Table) -> None:
        """Keep one more result; it is on disk, and found, after the next `flush`."""
        self._waiting.append(row)
        self._clips += sum(pc.list_value_length(row["clips"]).to_pylist())
        late = time.monotonic() > self._written + _PART_SECONDS
        if late or len(self._waiting) >= _PART_ROWS or self._clips >= _PART_CLIPS:
            self.flush()

    def flush(self) -> None:
        """Write what waits as one part."""
        if self._waiting:
            name, index = self._write(len(self._names), pa.concat_tables(self._waiting))
            self._names.append(name)
            self._indices.append(index)
        self._waiting, self._clips = [], 0
        self._written = time.monotonic()

    def settle(self, places: Int64[np.ndarray, " n"]) -> None:
        """Bring the results into an order that does not tell when each of them came.

        Those at the places come first, then those of other files; what is outdated goes.
        """
        index = self._paths()
        chunks = self.chunks(np.arange(len(index)), _PART_ROWS)
        full = [*map(len, chunks)] == [*map(len, self._indices)]
        if full and len({*index}) == len(index) and not np.any(places != np.arange(len(places))):
            return  # they are
        named = {index[place] for place in places}
        others = [place for path, place in self._last_of().items() if path not in named]
        self._rewrite(np.concatenate([places, np.array(sorted(others), np.int64)]))

    def forget(self, paths: Collection[str]) -> None:
        """Drop the results of some files, so that they are scanned again."""
        kept = [place for path, place in self._last_of().items() if path not in paths]
        if len(kept) < len(self):
            self._rewrite(np.array(sorted(kept), np.int64))

    def _paths(self) -> list[str]:
        return [path for index in self._indices for path in index["path"].to_pylist()]

    def _last_of(self) -> dict[str, int]:
        """The place of the last result of each file."""
        return {path: place for place, path in enumerate(self._paths())}

    def _rewrite(self, order: Int64[np.ndarray, " n"]) -> None:
        chunks = self.chunks(order, _PART_ROWS)
        written = [self._write(n, self.rows(chunk)) for n, chunk in enumerate(chunks)]
        for name in {*self._names} - {name for name, _ in written}:
            self._store.delete(name)
        self._names = [name for name, _ in written]
        self._indices = [index for _, index in written]

    def _write(self, number: int, table: pa.Table) -> tuple[str, pa.Table]:
        """Write a part; returns its name, and what is kept in memory of it."""
        table = table.combine_chunks().replace_schema_metadata({_SETTINGS: self._settings})
        data = table_bytes(table)
        name = content_name(FOLDER, number, data)
        self._store.write(name, data)
        return name, _with_counts(table)


def _sound_index(store: Store, name: str) -> pa.Table | None:
    """What is kept in memory of a part that is as it was written, or None."""
    data = store.read(name)
    if not is_named_after(name, data):
        return None
    file = pq.ParquetFile(pa.BufferReader(data))
    return _with_counts(file.read([*_INDEX, "clips.list.element.shot"]))


def _with_counts(part: pa.Table) -> pa.Table:
    """The columns that are kept in memory, and how many clips each video has."""
    counts = pc.list_value_length(part["clips"])
    return part.select(_INDEX).append_column("count", counts)
