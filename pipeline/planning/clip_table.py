"""Clips and rejects as Arrow tables, and rejects back."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields
from itertools import count

import pyarrow as pa

from pipeline.records import Reject
from shards import Clip
from shards.schema import CLIP_TABLE, REJECTS, Scalar, user_name


def clip_table(
    clips: Sequence[Clip], clips_per_shard: int, *, taken: Collection[int] = ()
) -> pa.Table:
    """`CLIP_TABLE`, then the users' columns; shards are filled in the order of the clips.

    Args:
        taken: numbers of shards that are passed over.
    """
    free = (shard for shard in count() if shard not in taken)
    places = (shard for shard in free for _ in range(clips_per_shard))
    rows = [clip.to_row(shard) for shard, clip in zip(places, clips, strict=False)]
    table = pa.Table.from_pylist(rows, schema=CLIP_TABLE)
    users = users_columns([clip.columns for clip in clips])
    for field in users.schema:
        table = table.append_column(field, users[field.name])
    return table


def users_columns(rows: Sequence[Mapping[str, Scalar]]) -> pa.Table:
    """What users gave for each clip or video, under the names that it gets in the index."""
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({user_name(name): pa.array([row.get(name) for row in rows]) for name in names})


def reject_table(rejects: Sequence[Reject]) -> pa.Table:
    """Rejects as rows of `REJECTS`."""
    rows = [{**asdict(reject), "source_sha256": reject.sha256} for reject in rejects]
    return pa.Table.from_pylist(rows, schema=REJECTS)


def rejects_of_table(table: pa.Table) -> list[Reject]:
    """The rejects that `reject_table` put in a table."""
    names = {field.name for field in fields(Reject)}
    renamed = table.rename_columns(
        [{"source_sha256": "sha256"}.get(name, name) for name in table.column_names]
    )
    return [Reject(**row) for row in renamed.select(sorted(names)).to_pylist()]
