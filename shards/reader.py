"""Reading clips and flow fields by byte ranges that the index gives; every read is checked."""

import zlib
from collections.abc import Sequence

import numpy as np

from shards.index import Dataset, Layer
from shards.store import join, read_range

_GAP_BYTES = 64 * 1024  # fields closer than this are fetched in one request


class DamagedShard(ValueError):
    """The bytes at the place the index names are not those that were written."""


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
            DamagedShard: the checksum differs from the index's.
        """
        offset, size, crc32 = (
            self.dataset.clips[f"{name}_{what}"][row].as_py()
            for what in ("offset", "size", "crc32")
        )
        url = self._tar_url("clips", row)
        data = read_range(url, offset, size)
        self._check(data, crc32, url, row, name)
        return data

    def fields(self, row: int, pairs: Sequence[tuple[int, int]]) -> list[bytes]:
        """The encoded flow fields of clip `row` for (source, target) frame `pairs`, in their order.

        Raises:
            KeyError: the layer holds no such pair.
            DamagedShard: a checksum differs from the index's.
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
        url = self._tar_url(join("flow", self.layer.name), row)
        blobs = read_spans(url, spans)
        for pair, index, blob in zip(pairs, indices, blobs, strict=True):
            self._check(blob, int(record["field_crc32"][index]), url, row, f"flow, pair {pair}")
        return blobs

    def _tar_url(self, folder: str, row: int) -> str:
        return self.dataset.tar_url(folder, self.dataset.shards[self._shard_of_row[row]])

    def _check(self, data: bytes, crc32: int, url: str, row: int, name: str) -> None:
        if zlib.crc32(data) != crc32:
            key = self.dataset.clips["key"][row].as_py()
            raise DamagedShard(
                f"{url}: {key} ({name}) differs from what was written; `fluxshard verify "
                f"{self.dataset.url}` lists all damage. Delete the shard and build again"
            )


def read_spans(url: str, spans: Sequence[tuple[int, int]]) -> list[bytes]:
    """The bytes of each (offset, size), near ones fetched in one request."""
    blobs: dict[tuple[int, int], bytes] = {}
    for group in coalesce(spans, gap=_GAP_BYTES):
        start = group[0][0]
        data = read_range(url, start, max(offset + size for offset, size in group) - start)
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
