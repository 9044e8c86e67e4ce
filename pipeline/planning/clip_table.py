"""Scans as clips, and rejects, in Arrow tables."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

from pipeline.planning.scans import Scans
from pipeline.records import Reject, Source
from pipeline.source.given_clips import OURS
from shards.schema import CLIP_TABLE, REJECTS, Scalar, user_name

_CHUNK = 256  # videos that are held at once, at most


def accepted(
    scans: Scans,
    places: Int64[np.ndarray, " sources"],
    sources: Sequence[Source],
    known: Mapping[str, str],
) -> tuple[list[int], list[Reject]]:
    """Numbers of the sources that give clips of their own, and a reject for each of the others.

    Of several videos with the same bytes the first is kept. A known one is neither.

    Args:
        places: of the result of each source.
        known: path of each video that was planned before, by its SHA-256.
    """
    first = dict(known)
    numbers: list[int] = []
    rejects: list[Reject] = []
    for start, rows in _chunks(scans, places):
        for number, row in enumerate(rows.drop_columns("clips").to_pylist(), start):
            path, sha256 = sources[number].path, row["source_sha256"]
            if row["reason"] is not None:
                rejects.append(_reject(path, sha256, row["stage"], row["reason"], row["detail"]))
            elif first.setdefault(sha256, path) != path:
                detail = f"the same bytes as {first[sha256]}"
                rejects.append(_reject(path, sha256, "input", "duplicate", detail))
            elif sha256 not in known:
                numbers.append(number)
    return numbers, rejects


def _reject(path: str, sha256: str | None, stage: str, reason: str, detail: str) -> Reject:
    return Reject(path=path, sha256=sha256, stage=stage, reason=reason, detail=detail)


def clips_of_scans(
    scans: Scans, places: Int64[np.ndarray, " sources"], sources: Sequence[Source]
) -> Iterator[pa.Table]:
    """The clips of some sources, in their order: `CLIP_TABLE` without `shard`, users' columns."""
    users = users_columns([source.columns for source in sources])
    captions = pa.array([source.caption or "" for source in sources], pa.string())
    for start, rows in _chunks(scans, places):
        lists = rows["clips"].combine_chunks()
        counts = pc.list_value_length(lists).to_numpy()
        source = pa.array(start + np.repeat(np.arange(len(rows)), counts))
        clips = pa.Table.from_struct_array(lists.flatten())
        table = clips.append_column("caption", captions.take(source)).select(pa.schema(OURS).names)
        for field in users.schema:
            table = table.append_column(field, users[field.name].take(source))
        yield table


def _chunks(scans: Scans, places: np.ndarray) -> Iterator[tuple[int, pa.Table]]:
    start = 0
    for chunk in scans.chunks(places, _CHUNK):
        yield start, scans.rows(chunk)
        start += len(chunk)


def users_columns(rows: Sequence[Mapping[str, Scalar]]) -> pa.Table:
    """What users gave for each clip or video, under the names that it gets in the index."""
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({user_name(name): pa.array([row.get(name) for row in rows]) for name in names})


def users_of(table: pa.Table) -> list[str]:
    """The names of users' columns in rows of a plan."""
    return [name for name in table.column_names if name not in CLIP_TABLE.names]


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
