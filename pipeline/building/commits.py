"""What is committed of a shard: its files compared with what is recorded, and what they hold."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.records import Reject
from shards import DamagedDataset, Store, check_commit
from shards.manifest import sha256_of

REJECTS_KEY = b"rejects"  # in the metadata of a shard's clip Parquet: clips that were left out


@dataclass(frozen=True, kw_only=True, slots=True)
class Commit:
    """What a shard's files hold, as the manifest is to record it.

    Attributes:
        digests: SHA-256 of the Parquet files, by name without suffix.
        clips: how many.
        rejects: clips that were left out.
    """

    digests: Mapping[str, str]
    clips: int
    rejects: tuple[Reject, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardFiles:
    """The files of one shard of the clips, of layers, or of both.

    Attributes:
        store: of the dataset.
        shard: its number.
        stems: their names without suffix; the last Parquet commits them all.
        recorded: SHA-256 of the Parquet files, by stem, where the manifest has them.
    """

    store: Store
    shard: int
    stems: tuple[str, ...]
    recorded: Mapping[str, str] = field(default_factory=dict)

    @property
    def committed(self) -> bool:
        """Whether they were written once: the manifest says so, or the Parquet that commits."""
        return bool(self.recorded) or self.store.exists(f"{self.stems[-1]}.parquet")

    @property
    def is_done(self) -> bool:
        """Whether they are there, and not damaged."""
        return self.committed and not self.damage()

    def damage(self) -> list[str]:
        """What a glance finds wrong with files that were committed."""
        glances = (check_commit(self.store, stem, self.recorded.get(stem)) for stem in self.stems)
        return [f"{self.store.at(found.file)}: {found.what}" for found in glances if found]

    def commit(self) -> Commit:
        """What they hold.

        Raises:
            DamagedDataset: a Parquet file is not what the manifest records.
        """
        data = {stem: self.store.read(f"{stem}.parquet") for stem in self.stems}
        for stem, content in data.items():
            self.check(stem, content, "has changed while the job was running")
        last = pq.ParquetFile(pa.BufferReader(data[self.stems[-1]]))
        rejects = json.loads((last.schema_arrow.metadata or {}).get(REJECTS_KEY, b"[]"))
        return Commit(
            digests={stem: sha256_of(content) for stem, content in data.items()},
            clips=last.metadata.num_rows,
            rejects=tuple(Reject(**row) for row in rejects),
        )

    def check(self, stem: str, data: bytes, why: str) -> None:
        """DamagedDataset if a Parquet file is not the one that the manifest records."""
        if self.recorded.get(stem) not in (None, sha256_of(data)):
            raise DamagedDataset(
                f"{self.store.at(stem)}.parquet {why}: its digest would not be what the manifest "
                "records. Bring the files of this shard back from a copy, or build a new dataset; "
                "the flow that is sound here is copied"
            )


def shard_files(
    store: Store, shard: int, stems: tuple[str, ...], recorded: Mapping[str, str]
) -> ShardFiles:
    """The files of a shard, with what a manifest records of all."""
    known = {stem: recorded[stem] for stem in stems if stem in recorded}
    return ShardFiles(store=store, shard=shard, stems=stems, recorded=known)


def look(shards: Sequence[ShardFiles]) -> list[tuple[int, Commit | list[str]]]:
    """On a worker: what some shards hold, by number, or what is wrong with them."""
    return [(files.shard, files.damage() or files.commit()) for files in shards]
