"""Names and columns of a dataset on disk; `docs/format.md` explains them for other readers.

    DATASET/manifest.json                     configuration, shards, layers, digests
    DATASET/clips.parquet, rejects.parquet    every clip planned; every input refused
    DATASET/clips/000000.{tar,parquet}        KEY.json, KEY.mp4, KEY.txt; one row a clip
    DATASET/flow/LAYER/000000.{tar,parquet}   KEY.flow; one row a clip, places of all fields

The Parquet row is the truth: it holds offset, size and checksum of every member and field.
"""

import re

import pyarrow as pa

FORMAT_VERSION = 1
CLIP_MEMBERS = ("json", "mp4", "txt")  # in the order TarWriter writes them
FLOW_MEMBERS = ("flow",)

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
    }
)

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
