"""Where stored flow is: the entry of one flow layer, and what a lookup finds among entries.

Places are hints. Whoever follows one checks the Parquet against its digest, and then each field.
"""

import json
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shards import Store
from shards.manifest import canonical_json, sha256_of

NO_RECORDS = np.empty(
    0, [("source", "S32"), ("entry", "i4"), ("shard", "i4"), ("row", "i4"), ("pts", "i8", 2)]
)
_ROWS = pa.schema(
    {
        "source_sha256": pa.binary(32),
        "shard": pa.int32(),  # number among the entry's shards
        "row": pa.int32(),  # in the Parquet of that shard
        "first_pts": pa.int64(),
        "last_pts": pa.int64(),
    }
)
EMPTY_ROWS = _ROWS.empty_table()
_NOTE = b"fluxshard"  # in the metadata of an entry's file: the entry as JSON


def address_of(dataset: Store) -> str:
    """The name of a dataset on every machine: a local folder gets that of this machine."""
    if not dataset.is_local:
        return dataset.url.rstrip("/")
    return f"file://{socket.gethostname()}{Path(dataset.url).resolve().as_posix()}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One flow layer of one dataset.

    Attributes:
        dataset: its address, see `address_of`.
        layer, spec: as in the dataset's manifest.
        recipe: digest of all that decides one field.
        shards: (name, SHA-256 of the layer's Parquet file) of each shard.
        clips, bytes: how many clips there are, and how many bytes their flow has.
    """

    dataset: str
    layer: str
    spec: dict[str, Any]
    recipe: str
    shards: tuple[tuple[str, str], ...]
    clips: int
    bytes: int

    @property
    def url(self) -> str:
        """Where this machine reaches the dataset, if it can at all."""
        if not self.dataset.startswith("file://"):
            return self.dataset
        return "/" + self.dataset.removeprefix("file://").partition("/")[2]

    @property
    def is_elsewhere(self) -> bool:
        """Whether it is a local folder of another machine."""
        return self.dataset.startswith("file://") and self.dataset != address_of(Store(self.url))

    @property
    def file(self) -> str:
        """Its name in a catalog."""
        return f"{self.recipe[:16]}/{self.layer}-{sha256_of(self.dataset.encode())[:12]}.parquet"


def entry_table(entry: Entry, rows: pa.Table) -> pa.Table:
    """The file of an entry, given the `layer_rows` of all its shards."""
    order = [(name, "ascending") for name in ("source_sha256", "shard", "row")]
    return rows.sort_by(order).replace_schema_metadata({_NOTE: canonical_json(asdict(entry))})


def read_entry(data: bytes) -> Entry:
    """The entry that a file is about; ValueError if the bytes are none."""
    try:
        note = json.loads(pq.read_schema(pa.BufferReader(data)).metadata[_NOTE])
        return Entry(**{**note, "shards": tuple((name, sha) for name, sha in note["shards"])})
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not an entry of a flow catalog: {error}") from error


def layer_rows(index: pa.Table, shard: int) -> pa.Table:
    """What an entry keeps of a layer's Parquet: a row for each clip, `shard` being its number."""
    pts = index["pts"].combine_chunks()
    times, ends = pts.values.to_numpy(), pts.offsets.to_numpy()
    columns = {
        "source_sha256": [bytes.fromhex(source) for source in index["source_sha256"].to_pylist()],
        "shard": np.full(len(index), shard, np.int32),
        "row": np.arange(len(index), dtype=np.int32),
        "first_pts": times[ends[:-1]],
        "last_pts": times[ends[1:] - 1],
    }
    return pa.table(columns, schema=_ROWS)


def read_records(data: bytes, wanted: np.ndarray) -> np.ndarray:
    """The rows of an entry's file that are of a wanted source, as `NO_RECORDS` has them.

    Args:
        wanted: S32, sorted.

    Raises:
        ValueError: the bytes are not such a file.
    """
    try:
        batches = pq.ParquetFile(pa.BufferReader(data)).iter_batches()  # for their small copies
        parts = [_records(batch.cast(_ROWS), wanted) for batch in batches]
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"not an entry of a flow catalog: {error}") from error
    return np.concatenate([NO_RECORDS, *parts])


def _records(rows: pa.RecordBatch, wanted: np.ndarray) -> np.ndarray:
    column = rows["source_sha256"]
    width = column.type.byte_width
    keys = np.frombuffer(column.buffers()[1], f"S{width}", len(column), column.offset * width)
    found = wanted[np.minimum(np.searchsorted(wanted, keys), len(wanted) - 1)] == keys
    records = np.empty(np.count_nonzero(found), NO_RECORDS.dtype)
    records["source"] = keys[found]
    for name in ("shard", "row"):
        records[name] = rows[name].to_numpy()[found]
    for end, name in enumerate(("first_pts", "last_pts")):
        records["pts"][:, end] = rows[name].to_numpy()[found]
    return records


def by_source(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Records of several entries as one array, sorted by source, as each of them is."""
    if len(parts) == 1:
        return parts[0]  # a million of them are not copied
    records = np.concatenate([NO_RECORDS, *parts])
    return records[np.argsort(records["source"], kind="stable")]


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredShard:
    """Rows of one shard of a flow layer that may hold what is wanted.

    Attributes:
        dataset: that owns it.
        stem: name of its tar and its Parquet there, without their suffixes.
        sha256: of that Parquet.
        rows: numbers of the rows.
    """

    dataset: Store
    stem: str
    sha256: str
    rows: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Found:
    """What a catalog knows about some sources.

    Attributes:
        entries: layers that hold flow of them.
        records: as `NO_RECORDS`, sorted by source; `entry` is a number among the entries.
        warnings: what could not be used.
    """

    entries: tuple[Entry, ...]
    records: np.ndarray
    warnings: tuple[str, ...]

    def near(self, spans: Mapping[str, tuple[int, int]]) -> tuple[StoredShard, ...]:
        """Shards with clips of these sources that reach into their (first, last) times."""
        rows: dict[tuple[int, int], set[int]] = {}
        for source, (first, last) in spans.items():
            key = np.array(bytes.fromhex(source), "S32")
            start, stop = (
                int(np.searchsorted(self.records["source"], key, side))
                for side in ("left", "right")
            )
            records = self.records[start:stop]
            overlap = (records["pts"][:, 0] <= last) & (records["pts"][:, 1] >= first)
            for record in records[overlap]:
                place = int(record["entry"]), int(record["shard"])
                rows.setdefault(place, set()).add(int(record["row"]))
        return tuple(self._shard(*place, rows[place]) for place in sorted(rows))

    def _shard(self, number: int, shard: int, rows: Iterable[int]) -> StoredShard:
        entry = self.entries[number]
        name, digest = entry.shards[shard]
        return StoredShard(
            dataset=Store(entry.url),
            stem=f"flow/{entry.layer}/{name}",
            sha256=digest,
            rows=tuple(sorted(rows)),
        )
