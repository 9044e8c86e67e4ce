"""Clips to shards: pure functions from the clips of all videos, streamed, to rows with a shard.

The plan is made in blocks of some thousand clips, each laid out by itself. In a block, runs of
neighbouring clips are spread over the shards by a keyed permutation: clips of one video do not
come together in training, yet a shard reads each video in one pass.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int, Int64

from shards.order import fold, permutation
from shards.schema import CLIP_TABLE

BLOCK_CLIPS = 4096  # at least so many, and so many shards, are laid out together
BLOCK_SHARDS = 4
RUN = 4  # neighbouring clips that stay together: to decode one, its group of pictures is decoded


def blocks(clips: Iterable[pa.Table], per_shard: int, free: Iterator[int]) -> Iterator[pa.Table]:
    """The clips with their shards, block by block, each sorted by shard.

    Args:
        clips: clip tables but for the column `shard`, in the order of the videos.
        per_shard: clips in a shard; the last of a block may have fewer only at the end.
        free: numbers of the shards to fill, ascending.
    """
    shards = max(BLOCK_SHARDS, -(-BLOCK_CLIPS // per_shard))
    for block in regroup(clips, shards * per_shard):
        numbers = list(islice(free, -(-len(block) // per_shard)))
        yield with_shards(block, layout(block, per_shard, numbers))


def regroup(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The same rows in tables of `rows` each; the last may have fewer."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        while (count := sum(map(len, held))) >= rows:
            joined = pa.concat_tables(held)
            yield joined.slice(0, rows)
            held = [joined.slice(rows)] if count > rows else []
    if any(map(len, held)):
        yield pa.concat_tables(held)


def layout(clips: pa.Table, per_shard: int, numbers: Sequence[int]) -> Int64[np.ndarray, " clips"]:
    """The shard of each clip of a block.

    Args:
        numbers: of the shards; they are filled one after the other.
    """
    groups = groups_of(clips, per_shard)
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    sizes = np.diff(np.append(starts, len(groups)))
    order = permutation(len(starts), fold("clips over shards", *numbers[:1]))
    rows = np.concatenate([np.arange(starts[g], starts[g] + sizes[g]) for g in order])
    shards = np.empty(len(clips), np.int64)
    shards[rows] = np.repeat(numbers, per_shard)[: len(clips)]
    return shards


def groups_of(clips: pa.Table, per_shard: int) -> Int64[np.ndarray, " clips"]:
    """The number of the run that each clip is in, ascending.

    Of a video that cannot be sought a whole shard stays together: each shard that has clips of it
    decodes it from its start.
    """
    videos = np.asarray(clips["source_sha256"].combine_chunks().dictionary_encode().indices)
    first = changes(videos)
    starts = np.flatnonzero(first)
    place = np.arange(len(videos)) - np.repeat(starts, np.diff(np.append(starts, len(videos))))
    seekable = np.asarray(clips["seekable"].combine_chunks().cast(pa.int8())).astype(bool)
    longest = np.where(seekable, min(RUN, per_shard), per_shard)
    return np.cumsum(first | (place % longest == 0)) - 1


def changes(values: Int[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Where a value differs from the one before; True for the first."""
    return np.append(np.ones(min(len(values), 1), bool), values[1:] != values[:-1])


def with_shards(clips: pa.Table, shards: Int64[np.ndarray, " clips"]) -> pa.Table:
    """The clips with the column `shard`, where `CLIP_TABLE` has it, sorted by it."""
    place = CLIP_TABLE.get_field_index("shard")
    table = clips.add_column(place, CLIP_TABLE.field("shard"), pa.array(shards, pa.int32()))
    return table.take(pa.array(np.argsort(shards, kind="stable"))).combine_chunks()


def by_shard(table: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """Each shard of a block, with its rows."""
    shards = table["shard"].to_numpy()
    starts = np.flatnonzero(changes(shards)).tolist()
    for start, end in zip(starts, [*starts[1:], len(shards)], strict=True):
        yield int(shards[start]), cut(table, start, end)


def cut(table: pa.Table, start: int, stop: int) -> pa.Table:
    """Rows [start, stop) by themselves: a slice travels with all rows of what it is a slice of."""
    return table.take(pa.array(range(start, stop), pa.int64()))


def agrees(planned: pa.Table, stored: pa.Table) -> bool:
    """Whether a stored shard is what is planned for it, but for clips refused while building."""
    kept = planned.filter(pc.is_in(planned["key"], stored["key"].combine_chunks()))
    return kept.schema.equals(stored.schema) and kept.combine_chunks().equals(
        stored.combine_chunks()
    )
