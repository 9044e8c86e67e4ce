"""Shards in pieces, so that one shard uses every free core.

A piece is a shard of its own: it builds a run of a shard's clips, anywhere on the cluster, into
tars and Parquet files that only the job knows. Members stand in a tar one after another, so the
pieces' tars in order are the shard's, once every offset is moved. Nothing but bytes that are stored
anyway goes through the store, pixels stay where they are.
"""

import json
from base64 import b64decode
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.building.commits import REJECTS_KEY
from pipeline.building.costs import Costs
from pipeline.building.task import Task
from shards import Store
from shards.manifest import canonical_json
from shards.schema import CLIP_MEMBERS, FLOW_MEMBERS
from shards.writer import BLOCK, tar_bytes

_CHUNK = 2**24  # bytes of a tar in memory at once


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """A shard to build, whole or in pieces.

    Attributes:
        task: the shard.
        pieces: in the order of its clips; nothing but the task itself if it is built whole.
    """

    task: Task
    pieces: tuple[Task, ...]

    @property
    def is_whole(self) -> bool:
        return self.pieces == (self.task,)

    def run(self) -> Costs:
        """Write the shard from its pieces, byte for byte as `task.run` does; on a worker.

        Raises:
            DamagedDataset: the shard would not be what the manifest records.
        """
        if not self.task.is_done:
            bind(self.task, self.pieces)
        self.remove()
        return Costs()

    def remove(self) -> None:
        """Delete the pieces' files, those that are there."""
        for piece in self.pieces:
            for stem in piece.stems:
                for suffix in ("parquet", "tar"):
                    piece.store.delete(f"{stem}.{suffix}")


def split_last(tasks: Iterable[Task], threads: Callable[[], int], job: str) -> Iterator[Split]:
    """The tasks as they are handed out: whole while more are left than there are threads.

    The last ones come in pieces, so that no thread idles while another builds a whole shard. Each
    piece takes half of a thread's fair share of the clips that are left: large ones first, for
    each costs a little, and small ones last, which end together.

    Args:
        threads: how many there are now, over all workers.
        job: makes the names of its pieces those of no other job.
    """
    tasks, last = iter(tasks), deque[Task]()
    while True:
        workers = threads()
        last.extend(islice(tasks, max(0, workers + 1 - len(last))))
        if len(last) <= workers:
            break
        yield Split(task=last[0], pieces=(last.popleft(),))
    clips = sum(len(task.rows) for task in last)
    for task in last:
        cuts = [0]
        while cuts[-1] < len(task.rows):
            share = -(-clips // (2 * workers)) if workers > 1 else len(task.rows)
            cuts.append(min(cuts[-1] + share, len(task.rows)))
            clips -= cuts[-1] - cuts[-2]
        if len(cuts) > 2:
            pieces = [task.piece(start, stop, job) for start, stop in pairwise(cuts)]
            yield Split(task=task, pieces=tuple(pieces))
        else:
            yield Split(task=task, pieces=(task,))


def bind(task: Task, pieces: Sequence[Task]) -> None:
    """Write a shard's files from those of its pieces: its tars first, then what commits it."""
    tables = {}
    with ExitStack() as stack:
        for stem, parts in zip(
            task.stems, zip(*(p.stems for p in pieces), strict=True), strict=True
        ):
            tar = stack.enter_context(task.store.publish(f"{stem}.tar"))
            tables[stem] = _join(task.store, parts, tar)
        files = task.serialised(tables)
    for stem, data in files.items():
        task.store.write(f"{stem}.parquet", data)


def _join(store: Store, stems: Sequence[str], tar: BinaryIO) -> pa.Table:
    """Write the tars of some stems as one; returns the rows of all, with the places in it."""
    members = CLIP_MEMBERS if stems[0].startswith("clips/") else FLOW_MEMBERS
    tables, rejects, start = [], [], 0
    for stem in stems:
        table = _as_written(store.read(f"{stem}.parquet"))
        end = _end(table, members[-1])
        _copy(store, f"{stem}.tar", end, tar)
        tables.append(_moved(table, members, start))
        rejects += json.loads((table.schema.metadata or {}).get(REJECTS_KEY, b"[]"))
        start += end
    tar.write(bytes(tar_bytes(start) - start))
    notes = {REJECTS_KEY: canonical_json(rejects)} if members == CLIP_MEMBERS else None
    return pa.concat_tables(tables).combine_chunks().replace_schema_metadata(notes)


def _as_written(parquet: bytes) -> pa.Table:
    """A table as it was in memory: reading alone gives the items of lists another name."""
    file = pq.ParquetFile(pa.BufferReader(parquet))
    schema = pa.ipc.read_schema(pa.py_buffer(b64decode(file.metadata.metadata[b"ARROW:schema"])))
    return file.read().cast(schema)


def _end(table: pa.Table, member: str) -> int:
    """Where the last member of a tar ends, padding included."""
    if not len(table):
        return 0
    end = table[f"{member}_offset"][-1].as_py() + table[f"{member}_size"][-1].as_py()
    return -(-end // BLOCK) * BLOCK


def _copy(store: Store, name: str, end: int, file: BinaryIO) -> None:
    """Append the first bytes of a stored file."""
    for offset in range(0, end, _CHUNK):
        size = min(_CHUNK, end - offset)
        data = store.read_range(name, offset, size)
        if len(data) != size:
            raise OSError(f"{store.at(name)} ends before {end} bytes: build it again")
        file.write(data)


def _moved(table: pa.Table, members: Sequence[str], by: int) -> pa.Table:
    """Rows whose members, and fields of flow, stand `by` bytes further into a tar."""
    for name in [f"{member}_offset" for member in members]:
        place = table.column_names.index(name)
        table = table.set_column(place, table.field(name), pc.add(table[name], by))
    if members == FLOW_MEMBERS:
        place, lists = table.column_names.index("field_offset"), table["field_offset"]
        chunks = [
            pa.ListArray.from_arrays(chunk.offsets, pc.add(chunk.values, by), type=chunk.type)
            for chunk in lists.chunks
        ]
        moved = pa.chunked_array(chunks, lists.type)
        table = table.set_column(place, table.field("field_offset"), moved)
    return table
