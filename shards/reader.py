"""Reading clips and flow fields by byte ranges that the index gives; every read is checked."""

import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa

from shards.index import Dataset
from shards.manifest import DamagedDataset, Layer
from shards.schema import CLIP_MEMBERS, member_columns
from shards.storage.open_files import OpenFiles
from shards.storage.range_cache import Span
from shards.store import Store

_TAR = ".tar"
_GAP_BYTES = 64 * 1024  # fields closer than this are fetched in one request
_FIELD = ["pair_source", "pair_target", "field_offset", "field_size", "field_crc32"]
Value = TypeVar("Value")


class Held(Generic[Value]):
    """What a function gives for numbers: the latest that were asked for are held.

    Safe for threads; a number that several ask for at once is worked out by one of them.
    """

    def __init__(self, function: Callable[[int], Value], most: int) -> None:
        self._function, self._most = function, most
        self._held: OrderedDict[int, Future[Value]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, number: int) -> Value:
        with self._lock:
            known = self._held.get(number)
            future = self._held[number] = known or Future()
            self._held.move_to_end(number)
            if len(self._held) > self._most:
                self._held.popitem(last=False)
        if known is None:
            try:
                future.set_result(self._function(number))
            except BaseException as error:
                with self._lock:
                    self._held.pop(number, None)  # the next one tries again
                future.set_exception(error)
        return future.result()


class ShardReader:
    """Random access to the members of a dataset; safe to call from several threads.

    The index is read by shard, when a row of it is asked for or ahead of that (`load`).

    Args:
        dataset: an opened dataset.
        layer: the flow layer that `fields` reads, or None.
        columns: of the clips, for `value`; more than key and members' places.
        held: shards whose index is held.

    Attributes:
        bytes_read: of members and fields, the gaps between near ones with them; not of a cache.
        stop: once it is set, reads that fail are not tried again, so that threads can end.
    """

    def __init__(
        self,
        dataset: Dataset,
        layer: Layer | None = None,
        *,
        columns: Sequence[str] = (),
        held: int = 16,
    ) -> None:
        self.dataset = dataset
        self.layer = layer
        self._columns = ["key", *member_columns(CLIP_MEMBERS).names, *columns]
        self._ends = np.cumsum(dataset.shard_rows)
        self._tables = Held(self._read, held)
        self._counting, self.bytes_read = threading.Lock(), 0
        self.stop = threading.Event()
        self._files = OpenFiles()

    def load(self, shard: int) -> None:
        """Read the index of shard number `shard`, if it is not held.

        Raises:
            DamagedDataset: it is not what the manifest records.
        """
        self._tables(shard)

    def clips(self, shard: int) -> pa.Table:
        """The columns that are held of the clips of shard number `shard`."""
        return self._tables(shard)[0]

    def value(self, row: int, column: str) -> Any:
        """What a column tells of clip `row`."""
        shard, place = self._place(row)
        return self.clips(shard)[column][place].as_py()

    def row(self, row: int, layer: Layer | None = None) -> dict[str, Any]:
        """All columns of clip `row`, of the clips or of a layer; they are read anew."""
        shard, place = self._place(row)
        table = self.dataset.rows(self.dataset.shards[shard], layer=layer)
        return table.slice(place, 1).to_pylist()[0]

    def _place(self, row: int) -> tuple[int, int]:
        """The number of the shard that holds a row, and the place in it."""
        if not 0 <= row < self._ends[-1]:
            raise IndexError(f"row {row}: {self.dataset.url} has {self._ends[-1]} clips")
        shard = int(np.searchsorted(self._ends, row, side="right"))
        return shard, row - int(self._ends[shard]) + self.dataset.shard_rows[shard]

    def _read(self, number: int) -> tuple[pa.Table, pa.Table | None]:
        shard = self.dataset.shards[number]
        clips = self.dataset.rows(shard, self._columns)
        if self.layer is None:
            return clips, None
        fields = self.dataset.rows(shard, ["key", *_FIELD], self.layer)
        self.dataset.check_fields(self.layer, clips, fields)
        return clips, fields

    def member(self, row: int, name: str) -> bytes:
        """The bytes of member `name` (`mp4`, `json`, `txt`) of clip `row`.

        Raises:
            DamagedDataset: the checksum differs from the index's.
        """
        offset, size, crc32 = (
            self.value(row, f"{name}_{what}") for what in ("offset", "size", "crc32")
        )
        return self._pieces(row, None, {(offset, size): (crc32, name)})[offset, size]

    def fields(self, row: int, pairs: Sequence[tuple[int, int]]) -> list[bytes]:
        """The encoded flow fields of clip `row` for (source, target) frame `pairs`, in their order.

        Raises:
            KeyError: the layer holds no such pair.
            DamagedDataset: a checksum differs from the index's.
        """
        if self.layer is None:
            raise ValueError("this reader was opened without a flow layer; name one to read flow")
        shard, place = self._place(row)
        _, flow = self._tables(shard)
        assert flow is not None, "there is a layer"
        record = {name: flow[name][place].values.to_numpy() for name in _FIELD}
        stored = zip(record["pair_source"].tolist(), record["pair_target"].tolist(), strict=True)
        number = {pair: index for index, pair in enumerate(stored)}
        indices = [number[pair] for pair in pairs]
        spans = [(int(record["field_offset"][i]), int(record["field_size"][i])) for i in indices]
        sums = record["field_crc32"][indices].tolist()
        pieces = {
            span: (crc32, f"flow, pair {pair}")
            for span, crc32, pair in zip(spans, sums, pairs, strict=True)
        }
        blobs = self._pieces(row, self.layer, pieces)
        return [blobs[span] for span in spans]

    def _pieces(
        self, row: int, layer: Layer | None, pieces: Mapping[Span, tuple[int, str]]
    ) -> dict[Span, bytes]:
        """Parts of the tar of a clip or its flow, given with checksums and what to call them.

        What the cache has of a remote tar is not read again.
        """
        shard = self.dataset.shards[self._place(row)[0]]
        store, stem = self.dataset.place("clips" if layer is None else f"flow/{layer.name}", shard)
        digest, tar = self.dataset.digest_of(shard, layer), f"{stem}{_TAR}"
        cache = None if store.is_local else self.dataset.cache
        checks = {span: partial(_has_sum, crc32=crc32) for span, (crc32, _) in pieces.items()}
        found = cache.read(digest, _TAR, checks) if cache else {}
        missing = [span for span in pieces if span not in found]
        read = zip(missing, read_spans(store, tar, missing, self.stop, self._files), strict=True)
        self._count(sum(map(_extent, coalesce(missing, gap=_GAP_BYTES))))
        for span, data in read:
            if not checks[span](data):
                raise self._damaged(store.at(tar), row, pieces[span][1])
            if cache:
                cache.write(digest, _TAR, span[0], data)
            found[span] = data
        return found

    def _count(self, read: int) -> None:
        with self._counting:
            self.bytes_read += read

    def _damaged(self, url: str, row: int, name: str) -> DamagedDataset:
        key = self.value(row, "key")
        return DamagedDataset(
            f"{url}: {key} ({name}) differs from what was written; `fluxshard verify "
            f"{self.dataset.url}` lists all damage. Delete the shard and build again"
        )


def _has_sum(data: bytes, crc32: int) -> bool:
    return zlib.crc32(data) == crc32


def read_spans(
    store: Store,
    name: str,
    spans: Sequence[tuple[int, int]],
    stop: threading.Event | None = None,
    files: OpenFiles | None = None,
) -> list[bytes]:
    """The bytes of each (offset, size), near ones fetched in one request."""
    blobs: dict[tuple[int, int], bytes] = {}
    for group in coalesce(spans, gap=_GAP_BYTES):
        start = group[0][0]
        data = store.read_range(name, start, _extent(group), stop, files)
        for offset, size in group:
            blobs[offset, size] = data[offset - start : offset - start + size]
    return [blobs[span] for span in spans]


def _extent(group: Sequence[tuple[int, int]]) -> int:
    """Bytes from the first (offset, size) of a group to its end."""
    return max(offset + size for offset, size in group) - group[0][0]


def coalesce(spans: Sequence[tuple[int, int]], *, gap: int) -> list[list[tuple[int, int]]]:
    """Group (offset, size) spans, in order of offset, that lie at most `gap` bytes apart."""
    groups: list[list[tuple[int, int]]] = []
    end = 0
    for offset, size in sorted(set(spans)):
        if groups and offset - end <= gap:
            groups[-1].append((offset, size))
        else:
            groups.append([(offset, size)])
        end = max(end, offset + size)
    return groups
