"""The dataset on disk: WebDataset tars, their Parquet index, the clip video, the stream's order.

Moves bytes and knows no flow and no pixels beyond the clip video. Imports nothing of ours.

store        a folder of files, local or remote       manifest    what a dataset says of itself
schema       names, columns, and rows as types        index       a dataset opened for reading
clip_video   frames to the stored clip and back       writer      one shard's tar and Parquet
reader       clips and fields by byte ranges          order       the order of the stream
verify       every byte against the index             merge       one dataset of several
storage/     file systems, their failures and locks
foreign/     index files of other readers, where they are asked for
mp4/         where an mp4's coded pictures lie
stopwatch    where the time goes
"""

from shards.clip_video import (
    DamagedClip,
    decode_clip,
    decode_planes,
    decode_rgb,
    encode_clip,
    is_storable,
)
from shards.index import Dataset, check_agreement, read_index, read_table
from shards.manifest import (
    DamagedDataset,
    Layer,
    Manifest,
    NoDataset,
    Shard,
    read_manifest,
    write_manifest,
)
from shards.merge import merge
from shards.order import Cursor, Mixture, Order, chance, fold, rank_rows, whole_weights
from shards.reader import ShardReader
from shards.schema import Clip, Span, clips_of
from shards.stopwatch import Stopwatch
from shards.storage.failures import Exhausted, StorageFailure, UsageError
from shards.storage.range_cache import RangeCache
from shards.store import Store
from shards.verify import Problem, check_commit, verify
from shards.writer import shard_tar, table_bytes, write_table

# fmt: off
__all__ = [  # noqa: RUF022 - grouped
    # the dataset
    "Dataset", "Manifest", "Shard", "Layer", "Clip", "Span", "clips_of", "read_manifest",
    "write_manifest",
    # bytes
    "Store", "ShardReader", "RangeCache", "read_table", "read_index", "check_agreement",
    "shard_tar", "table_bytes", "write_table",
    # pixels
    "encode_clip", "decode_clip", "decode_rgb", "decode_planes", "is_storable",
    # the stream's order
    "Order", "Mixture", "whole_weights", "Cursor", "fold", "chance", "rank_rows",
    # whole datasets
    "merge", "verify", "check_commit", "Problem",
    # errors, and where the time goes
    "UsageError", "NoDataset", "DamagedDataset", "DamagedClip", "StorageFailure", "Exhausted",
    "Stopwatch",
]
# fmt: on
