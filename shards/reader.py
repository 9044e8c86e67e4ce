"""Reading clips and flow fields by byte ranges that the index gives; every read is checked."""

import zlib
from collections.abc import Sequence

import numpy as np

from shards.index import Dataset
from shards.manifest import DamagedDataset, Layer
from shards.store import Store

_GAP_BYTES = 64 * 1024  # fields closer than this are fetched in one request


class ShardReader:
    """Random access to the members of a dataset; safe to call from several threads.

    Args:
        dataset: an opened dataset.
        layer: the flow layer that `fields` reads, or None.
    """

    def __init__(self, dataset: Dataset, layer: Layer | None = None) -> None:
        self.dataset = dataset
        self.layer = layer
        self._shard_of_row = np.repeat(np.arange(len(dataset.shards)), dataset.shard_rows)
        self._flow = None if layer is None else dataset.fields(layer)

    def member(self, row: int, name: str) -> bytes:
        """The bytes of member `name` (`mp4`, `json`, `txt`) of clip `row`.

        Raises:
            DamagedDataset: the checksum differs from the index's.
        """
        offset, size, crc32 = (
            self.dataset.clips[f"{name}_{what}"][row].as_py()
            for what in ("offset", "size", "crc32")
        )
        store, tar = self._tar("clips", row)
        data = store.read_range(tar, offset, size)
        self._check(data, crc32, store.at(tar), row, name)
        return data

    def fields(self, row: int, pairs: Sequence[tuple[int, int]]) -> list[bytes]:
        """The encoded flow fields of clip `row` for (source, target) frame `pairs`, in their order.

        Raises:
            KeyError: the layer holds no such pair.
            DamagedDataset: a checksum differs from the index's.
        """
        if self._flow is None or self.layer is None:
            raise ValueError("this reader was opened without a flow layer; name one to read flow")
        record = {
            name: self._flow[name][row].values.to_numpy()
            for name in ("pair_source", "pair_target", "field_offset", "field_size", "field_crc32")
        }
        stored = zip(record["pair_source"].tolist(), record["pair_target"].tolist(), strict=True)
        place = {pair: index for index, pair in enumerate(stored)}
        indices = [place[pair] for pair in pairs]
        spans = [(int(record["field_offset"][i]), int(record["field_size"][i])) for i in indices]
        store, tar = self._tar(f"flow/{self.layer.name}", row)
        blobs = read_spans(store, tar, spans)
        for pair, index, blob in zip(pairs, indices, blobs, strict=True):
            self._check(
                blob, int(record["field_crc32"][index]), store.at(tar), row, f"flow, pair {pair}"
            )
        return blobs

    def _tar(self, folder: str, row: int) -> tuple[Store, str]:
        shard = self.dataset.shards[self._shard_of_row[row]]
        store, stem = self.dataset.place(folder, shard)
        return store, f"{stem}.tar"

    def _check(self, data: bytes, crc32: int, url: str, row: int, name: str) -> None:
        if zlib.crc32(data) != crc32:
            key = self.dataset.clips["key"][row].as_py()
            raise DamagedDataset(
                f"{url}: {key} ({name}) differs from what was written; `fluxshard verify "
                f"{self.dataset.url}` lists all damage. Delete the shard and build again"
            )


def read_spans(store: Store, name: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
    """The bytes of each (offset, size), near ones fetched in one request."""
    blobs: dict[tuple[int, int], bytes] = {}
    for group in coalesce(spans, gap=_GAP_BYTES):
        start = group[0][0]
        data = store.read_range(name, start, max(offset + size for offset, size in group) - start)
        for offset, size in group:
            blobs[offset, size] = data[offset - start : offset - start + size]
    return [blobs[span] for span in spans]


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
