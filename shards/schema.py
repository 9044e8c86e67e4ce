"""Names and columns of a dataset on disk; `docs/format.md` explains them for other readers.

    DATASET/manifest.json                     configuration, shards, layers, digests
    DATASET/plan/*.parquet, rejects.parquet   every clip planned; every input refused
    DATASET/clips/000000.{tar,parquet}        KEY.json, KEY.mp4, KEY.txt; one row per clip
    DATASET/flow/LAYER/000000.{tar,parquet}   KEY.flow; one row per clip, places of all fields

The Parquet row is the truth: it holds offset, size and checksum of every member and field.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import pyarrow as pa

FORMAT_VERSION = 1
CLIP_MEMBERS = ("json", "mp4", "txt")  # in the order TarWriter writes them
FLOW_MEMBERS = ("flow",)
_USER = "user_"

_KEY = re.compile(r"[A-Za-z0-9_-]{1,80}")

CLIP_TABLE = pa.schema(
    {
        "key": pa.string(),
        "shard": pa.int32(),
        "path": pa.string(),
        "source_sha256": pa.string(),
        "numbers": pa.list_(pa.int32()),  # of the source frame in each slot, in order of display
        "pts": pa.list_(pa.int64()),  # its time, in units of the source's time base
        "time_base_num": pa.int32(),
        "time_base_den": pa.int32(),
        "fps_num": pa.int32(),
        "fps_den": pa.int32(),
        "frames": pa.int32(),
        "height": pa.int32(),
        "width": pa.int32(),
        "shot": pa.int32(),
        "repeated": pa.int32(),  # slots that show the same source frame as the slot before
        "decode_errors": pa.int32(),  # damaged packets in the source video
        "seekable": pa.bool_(),  # the source gives the same frames after a seek
        "caption": pa.string(),
        "codec": pa.string(),  # of the source video, as FFmpeg calls it
        "transfer": pa.int32(),  # its transfer function, ITU-T H.273 table 3; 16 is PQ, 18 HLG
        "interlaced": pa.bool_(),  # a frame of the clip is
        "letterbox": pa.float64(),  # share of the picture that is black borders all through
        "static": pa.float64(),  # share of slots that show no motion since the slot before
        "phash": pa.string(),  # perceptual hash of the frame in the middle, 16 hex digits
    }
)

_LOOKS = ("codec", "transfer", "interlaced", "letterbox", "static", "phash")  # younger columns

Scalar = None | bool | int | float | str  # what a user's column may hold


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """A clip: which source frame stands in each of its slots. A row of `CLIP_TABLE`.

    Attributes:
        key: short ASCII name without dots, unique in a dataset.
        path, source_sha256: the source video, and what it held.
        numbers: number of the source frame in each slot, counting decoded frames from 0.
        pts: its time, in units of the time base; strictly increasing over the source's frames.
        fps: frames per second of the clip.
        size: (height, width) of the clip in pixels.
        shot: number of the shot in the video.
        repeated: slots that show the same source frame as the slot before.
        decode_errors: damaged packets in the source video.
        seekable: the source gives the same frames after a seek.
        columns: of the user, passed through, by the names that they gave.
        codec, transfer, interlaced, letterbox, static, phash: what the source is and looks like, as
            in `CLIP_TABLE`; None in datasets that were built before these columns.
    """

    key: str
    path: str
    source_sha256: str
    numbers: tuple[int, ...]
    pts: tuple[int, ...]
    time_base: Fraction
    fps: Fraction
    size: tuple[int, int]
    shot: int
    repeated: int
    decode_errors: int
    seekable: bool
    caption: str = ""
    columns: Mapping[str, Scalar] = field(default_factory=dict)
    codec: str | None = None
    transfer: int | None = None
    interlaced: bool | None = None
    letterbox: float | None = None
    static: float | None = None
    phash: str | None = None

    def to_row(self, shard: int) -> dict[str, Any]:
        """As a row of a clip table, in shard `shard`; the user's columns under `user_name`."""
        return {
            "key": self.key,
            "shard": shard,
            "path": self.path,
            "source_sha256": self.source_sha256,
            "numbers": list(self.numbers),
            "pts": list(self.pts),
            "time_base_num": self.time_base.numerator,
            "time_base_den": self.time_base.denominator,
            "fps_num": self.fps.numerator,
            "fps_den": self.fps.denominator,
            "frames": len(self.numbers),
            "height": self.size[0],
            "width": self.size[1],
            "shot": self.shot,
            "repeated": self.repeated,
            "decode_errors": self.decode_errors,
            "seekable": self.seekable,
            "caption": self.caption,
            **{name: getattr(self, name) for name in _LOOKS},
            **{user_name(name): value for name, value in self.columns.items()},
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Clip":
        """The clip of a row of a clip table, or of a shard's clip Parquet."""
        same = ("key", "path", "source_sha256", "shot", "repeated", "decode_errors", "seekable")
        younger: dict[str, Any] = {name: row.get(name) for name in _LOOKS}
        return cls(
            **{name: row[name] for name in same},
            **younger,
            numbers=tuple(row["numbers"]),
            pts=tuple(row["pts"]),
            time_base=Fraction(row["time_base_num"], row["time_base_den"]),
            fps=Fraction(row["fps_num"], row["fps_den"]),
            size=(row["height"], row["width"]),
            caption=row["caption"],
            columns={_as_given(name): row[name] for name in row if name not in _KNOWN},
        )


def user_name(name: str) -> str:
    """The column of a user's value: `user_` comes before a name that is taken.

    Also before one that this could give, as `user_path`: no two columns meet under one name.
    """
    return f"{_USER}{name}" if _bare(name) in _KNOWN else name


def _as_given(column: str) -> str:
    """The name for which `user_name` gives this column."""
    return column.removeprefix(_USER) if _bare(column) in _KNOWN else column


def _bare(name: str) -> str:
    while name.startswith(_USER):
        name = name.removeprefix(_USER)
    return name


def clips_of(table: pa.Table) -> list[Clip]:
    """The clips of a clip table, or of a shard's clip Parquet."""
    return [Clip.from_row(row) for row in table.to_pylist()]


REJECTS = pa.schema(
    {
        "path": pa.string(),
        "source_sha256": pa.string(),
        "stage": pa.string(),
        "reason": pa.string(),
        "detail": pa.string(),
    }
)

FLOW_TABLE = pa.schema(
    {
        "key": pa.string(),
        "source_sha256": pa.string(),
        "pts": pa.list_(pa.int64()),  # as in the clip table: a pair of them names a field's frames
        "pair_source": pa.list_(pa.int32()),
        "pair_target": pa.list_(pa.int32()),
        "field_offset": pa.list_(pa.int64()),  # from the start of the tar
        "field_size": pa.list_(pa.int32()),
        "field_crc32": pa.list_(pa.uint32()),
    }
)


def valid_key(key: str) -> str:
    """The key itself; ValueError unless it is short ASCII without dots.

    WebDataset readers take a member's name up to the first dot as its key, and a long or non-ASCII
    name would insert an extra tar header before the data.
    """
    if not _KEY.fullmatch(key):
        raise ValueError(f"key {key!r} must match {_KEY.pattern}: WebDataset cuts names at dots")
    return key


def shard_name(index: int) -> str:
    """`000000`, the stem of a shard's tar and Parquet files in every layer."""
    return f"{index:06d}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """Where the data of one member lies in its tar: bytes, and their CRC-32."""

    offset: int
    size: int
    crc32: int


def span_columns(spans: Mapping[str, Span]) -> dict[str, int]:
    """The places of one sample's members, as columns of `member_columns`."""
    return {
        f"{member}_{what}": getattr(span, what)
        for member, span in spans.items()
        for what in ("offset", "size", "crc32")
    }


def spans_of(table: pa.Table, member: str) -> list[Span]:
    """The place of one member in each row of a shard's Parquet."""
    columns = (table[f"{member}_{what}"].to_pylist() for what in ("offset", "size", "crc32"))
    return [Span(offset=o, size=n, crc32=c) for o, n, c in zip(*columns, strict=True)]


def member_columns(members: tuple[str, ...]) -> pa.Schema:
    """Columns for the place of each member in its tar, in bytes, and the CRC-32 of its data."""
    return pa.schema(
        {
            f"{member}_{what}": kind
            for member in members
            for what, kind in (
                ("offset", pa.int64()),
                ("size", pa.int64()),
                ("crc32", pa.uint32()),
            )
        }
    )


_KNOWN = {*CLIP_TABLE.names, *member_columns(CLIP_MEMBERS).names}
