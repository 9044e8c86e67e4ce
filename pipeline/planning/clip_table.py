"""Clips and rejects as Arrow tables, and back."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from fractions import Fraction
from typing import Any

import pyarrow as pa

from pipeline.planning.config import BuildConfig
from pipeline.records import Clip, Reject
from shards.schema import CLIP_TABLE, REJECTS

_CONFLICT_PREFIX = "user_"  # for a user's column that is called like one of ours
_SAME_NAME = ("key", "path", "numbers", "pts", "shot", "repeated", "decode_errors", "seekable")


def clip_table(clips: Sequence[Clip], config: BuildConfig, *, first_shard: int = 0) -> pa.Table:
    """`CLIP_TABLE`, then the users' columns; shards are filled in the order of the clips."""
    rows = [
        {name: getattr(clip, name) for name in _SAME_NAME}
        | {
            "shard": first_shard + index // config.clips_per_shard,
            "source_sha256": clip.sha256,
            "time_base_num": clip.time_base.numerator,
            "time_base_den": clip.time_base.denominator,
            "fps_num": clip.fps.numerator,
            "fps_den": clip.fps.denominator,
            "frames": config.frames,
            "height": config.size[0],
            "width": config.size[1],
            "caption": clip.caption or "",
        }
        for index, clip in enumerate(clips)
    ]
    table = pa.Table.from_pylist(rows, schema=CLIP_TABLE)
    for name in dict.fromkeys(name for clip in clips for name in clip.columns):
        column = pa.array([clip.columns.get(name) for clip in clips])
        table = table.append_column(_free_name(name), column)
    return table


def _free_name(name: str) -> str:
    return f"{_CONFLICT_PREFIX}{name}" if name in CLIP_TABLE.names else name


def clip_of_row(row: dict[str, Any]) -> Clip:
    """The clip that a row of the clip table stands for; the users' columns stay in the row."""
    return Clip(
        **{name: _tuple(row[name]) for name in _SAME_NAME},
        sha256=row["source_sha256"],
        time_base=Fraction(row["time_base_num"], row["time_base_den"]),
        fps=Fraction(row["fps_num"], row["fps_den"]),
        caption=row["caption"],
    )


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


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
