"""The dataset on disk: WebDataset tars, their Parquet index, the clip video, the stream's order.

Moves bytes and knows no flow and no pixels beyond the clip video. Imports nothing of ours.
"""

from shards.clip_video import decode_clip, encode_clip
from shards.index import Dataset, Layer
from shards.order import Cursor, Order, fold, rank_rows
from shards.reader import DamagedShard, ShardReader
from shards.stopwatch import Stopwatch
from shards.store import UsageError
from shards.verify import Problem, verify
from shards.writer import Span, shard_tar, write_table

__all__ = [
    "Cursor",
    "DamagedShard",
    "Dataset",
    "Layer",
    "Order",
    "Problem",
    "ShardReader",
    "Span",
    "Stopwatch",
    "UsageError",
    "decode_clip",
    "encode_clip",
    "fold",
    "rank_rows",
    "shard_tar",
    "verify",
    "write_table",
]
