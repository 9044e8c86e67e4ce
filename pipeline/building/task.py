"""What travels to a worker: one shard to write, as metadata."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Self

import pyarrow as pa

from flow_cache import FlowSpec
from flow_cache.reuse.entries import StoredShard
from pipeline.building.costs import Costs
from pipeline.building.layer_writer import LayerWriter
from shards import DamagedDataset, Problem, Store, check_commit, shard_tar, table_bytes
from shards.manifest import sha256_of
from shards.schema import shard_name
from shards.store import TEMPORARY_PREFIX

REJECTS_KEY = b"rejects"  # in the metadata of a shard's clip Parquet: clips that were left out


@dataclass(frozen=True, kw_only=True, slots=True)
class Task(ABC):
    """One shard of a dataset to write: its clips and all layers, or one more layer.

    Attributes:
        store: of the dataset.
        shard: number of the shard.
        rows: of its clips.
        specs: of the flow layers to write.
        stored: where flow of the clips may be already, by layer.
        recorded: SHA-256 of its Parquet files, by name without suffix, where the manifest has them.
        part: begins the names of its files, where it is a piece of the shard.
    """

    store: Store
    shard: int
    rows: pa.Table
    specs: tuple[FlowSpec, ...]
    stored: Mapping[str, tuple[StoredShard, ...]] = field(default_factory=dict)
    recorded: Mapping[str, str] = field(default_factory=dict)
    part: str = ""

    @property
    @abstractmethod
    def stems(self) -> tuple[str, ...]:
        """Names of the files that it writes, without suffix; the last Parquet commits them all."""

    @abstractmethod
    def run(self) -> Costs:
        """Write it; on a worker."""

    @property
    def committed(self) -> bool:
        """Whether it was written once: the manifest says so, or the Parquet that commits it."""
        return bool(self.recorded) or self.store.exists(f"{self.stems[-1]}.parquet")

    def damage(self) -> list[Problem]:
        """What a glance finds wrong with files that were committed."""
        glances = (check_commit(self.store, stem, self.recorded.get(stem)) for stem in self.stems)
        return [problem for problem in glances if problem]

    def knowing(self, digests: Mapping[str, str]) -> Self:
        """The same, with what a manifest's `digests` record of it."""
        return replace(self, recorded={s: digests[s] for s in self.stems if s in digests})

    def piece(self, start: int, stop: int, job: str) -> Self:
        """The task of rows [start, stop) alone, whose files have names of this job's own."""
        rows = self.rows.take(pa.array(range(start, stop)))  # a slice would travel with all rows
        part = f"{TEMPORARY_PREFIX}{job}-{start:06d}-"
        return replace(self, rows=rows, part=part, recorded={})

    def serialised(self, tables: Mapping[str, pa.Table]) -> dict[str, bytes]:
        """Parquet files of tables by name without suffix, before any of the shard's files appears.

        Raises:
            DamagedDataset: one is not what the manifest records; nothing may replace what is there.
        """
        files = {stem: table_bytes(table) for stem, table in tables.items()}
        for stem, data in files.items():
            self._check(stem, data, "cannot be made again, as a source or a version has changed")
        return files

    def read_index(self, stem: str) -> bytes:
        """A committed Parquet file; DamagedDataset if it is not what the manifest records."""
        data = self.store.read(f"{stem}.parquet")
        self._check(stem, data, "has changed while the job was running")
        return data

    def _check(self, stem: str, data: bytes, why: str) -> None:
        if self.recorded.get(stem) not in (None, sha256_of(data)):
            raise DamagedDataset(
                f"{self.store.at(stem)}.parquet {why}: its digest would not be what the manifest "
                "records. Bring the files of this shard back from a copy, or build a new dataset; "
                "the flow that is sound here is copied"
            )

    def layer_stem(self, spec: FlowSpec) -> str:
        """Name of the shard's files of a layer, without suffix."""
        return self.stem(f"flow/{spec.layer}")

    def stem(self, folder: str) -> str:
        """Name of the shard's files in a folder, without suffix."""
        return f"{folder}/{self.part}{shard_name(self.shard)}"

    def open_layers(self, stack: ExitStack) -> list[LayerWriter]:
        """Writers of the layers, whose tars appear when the stack closes."""
        return [
            LayerWriter(
                spec,
                stack.enter_context(shard_tar(self.store, f"{self.layer_stem(spec)}.tar")),
                self.stored.get(spec.layer, ()),
            )
            for spec in self.specs
        ]
