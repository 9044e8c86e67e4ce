"""The folder `.nv-meta` by which Megatron-Energon 7 takes a folder of tars for a dataset.

It is what `energon prepare` writes, and tells of all samples, by SQL; the offsets beside each tar
are `formats.energon_index`. Clips and flow layers are a dataset each, which Energon joins by key.
"""

import json
import shutil
import sqlite3
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing

from shards.foreign.samples import Sample
from shards.store import Store

FOLDER = ".nv-meta"
_DATABASE = """
    CREATE TABLE samples (
        tar_file_id INTEGER NOT NULL, sample_key TEXT NOT NULL UNIQUE,
        sample_index INTEGER NOT NULL, byte_offset INTEGER, byte_size INTEGER);
    CREATE TABLE sample_parts (
        tar_file_id INTEGER, sample_index INTEGER, part_name TEXT,
        content_byte_offset INTEGER, content_byte_size INTEGER);
"""
_ACCESS = """
    CREATE INDEX idx_samples_by_tar_and_idx ON samples(tar_file_id, sample_index);
    CREATE INDEX idx_sample_parts_seq
        ON sample_parts(tar_file_id, sample_index, content_byte_offset);
    CREATE INDEX idx_sample_parts_full ON sample_parts(
        tar_file_id, sample_index, part_name, content_byte_offset, content_byte_size);
"""
# Samples as they are stored, by the names of their parts: what becomes of them is the trainer's.
_CRUDE = "__module__: megatron.energon\n__class__: CrudeWebdataset\n"


def write_meta(
    store: Store, folder: str, shards: Mapping[str, int], samples: Iterable[list[Sample]], of: str
) -> list[str]:
    """Write the `.nv-meta` of a folder of tars.

    Args:
        shards: samples in each tar, by its name in the folder; all are for training.
        samples: of each of them.
        of: what they are, by a digest; Energon prepares a join anew where it changes.

    Returns:
        The names of the files.
    """
    split = {"split_parts": {"train": list(shards), "val": [], "test": []}, "exclude": []}
    texts = {
        "index.uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, of)),
        "split.yaml": json.dumps(split, indent=1),  # JSON is YAML
        "dataset.yaml": _CRUDE,
        # Last, because it is by this one that Energon knows a dataset.
        ".info.json": json.dumps({"shard_counts": dict(shards)}, indent=2),
    }
    database = f"{folder}/{FOLDER}/index.sqlite"
    with tempfile.TemporaryDirectory(prefix="fluxshard-") as scratch:
        write_database(f"{scratch}/index.sqlite", samples)
        with open(f"{scratch}/index.sqlite", "rb") as made, store.publish(database) as file:
            shutil.copyfileobj(made, file)
    for name, text in texts.items():
        store.write(f"{folder}/{FOLDER}/{name}", text.encode())
    return [database, *(f"{folder}/{FOLDER}/{name}" for name in texts)]


def write_database(path: str, shards: Iterable[list[Sample]]) -> None:
    """Energon's SQLite index, a new file; the samples of one tar are held at a time."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = OFF")  # an unfinished one is thrown away
        database.executescript(_DATABASE)
        for tar, samples in enumerate(shards):
            database.executemany("INSERT INTO samples VALUES (?, ?, ?, ?, ?)", _rows(tar, samples))
            parts = _parts(tar, samples)
            database.executemany("INSERT INTO sample_parts VALUES (?, ?, ?, ?, ?)", parts)
        database.executescript(_ACCESS)
        database.commit()


def _rows(tar: int, samples: Sequence[Sample]) -> Iterator[tuple[int, str, int, int, int]]:
    for index, one in enumerate(samples):
        yield tar, one.key, index, one.start, one.end - one.start


def _parts(tar: int, samples: Sequence[Sample]) -> Iterator[tuple[int, int, str, int, int]]:
    for index, one in enumerate(samples):
        for member in one.members:
            yield tar, index, member.part, member.offset, member.size
