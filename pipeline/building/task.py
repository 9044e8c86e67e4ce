"""What travels to a worker: one shard to write, as metadata."""

from abc import ABC, abstractmethod
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import pyarrow as pa

from flow_cache import FlowSpec
from flow_cache.reuse.entries import StoredShard
from pipeline.building.commits import ShardFiles
from pipeline.building.costs import Costs
from pipeline.building.layer_writer import GivenFlow, LayerWriter
from pipeline.makers import sign
from pipeline.planning.clip_plan import cut
from shards import Store, shard_tar, table_bytes
from shards.manifest import Maker
from shards.schema import shard_name
from shards.store import TEMPORARY_PREFIX


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
    def files(self) -> ShardFiles:
        """What it writes."""
        return ShardFiles(
            store=self.store, shard=self.shard, stems=self.stems, recorded=self.recorded
        )

    @property
    def committed(self) -> bool:
        """Whether it was written once."""
        return self.files.committed

    @property
    def is_done(self) -> bool:
        """Whether its files are there, and not damaged."""
        return self.files.is_done

    def piece(self, start: int, stop: int, job: str) -> Self:
        """The task of rows [start, stop) alone, whose files have names of this job's own."""
        part = f"{TEMPORARY_PREFIX}{job}-{start:06d}-"
        return replace(self, rows=cut(self.rows, start, stop), part=part)

    def serialised(self, tables: Mapping[str, pa.Table]) -> dict[str, bytes]:
        """Parquet files of tables by name without suffix, before any of the shard's files appears.

        Raises:
            DamagedDataset: one is not what the manifest records; nothing may replace what is there.
        """
        written = {stem: table_bytes(table) for stem, table in tables.items()}
        for stem, data in written.items():
            why = "cannot be made again, as a source or a version has changed"
            self.files.check(stem, data, why)
        return written

    def sign(self, layers: Iterable[LayerWriter], **clips: tuple[Maker, ...]) -> None:
        """Write down what made the layers, and the clips: before the first Parquet is written.

        Where the shard is only made again the manifest has it: nobody else's bytes would do.
        """
        if not self.recorded:
            sign(self.store, clips | {layer.spec.layer: layer.makers for layer in layers})

    def layer_stem(self, spec: FlowSpec) -> str:
        """Name of the shard's files of a layer, without suffix."""
        return self.stem(f"flow/{spec.layer}")

    def stem(self, folder: str) -> str:
        """Name of the shard's files in a folder, without suffix."""
        return f"{folder}/{self.part}{shard_name(self.shard)}"

    def open_layers(self, stack: ExitStack) -> list[LayerWriter]:
        """Writers of the layers, whose tars appear when the stack closes."""
        return self.open_writers(stack)

    def open_writers(self, stack: ExitStack, given: GivenFlow | None = None) -> list[LayerWriter]:
        """The same, with flow that is not estimated but given."""
        return [
            LayerWriter(
                spec,
                stack.enter_context(shard_tar(self.store, f"{self.layer_stem(spec)}.tar")),
                self.stored.get(spec.layer, ()),
                given,
            )
            for spec in self.specs
        ]


class Shards(ABC):
    """The shards of a job: their sizes are held, their rows are read when they are needed.

    Attributes:
        specs: of the flow layers to write.
        sizes: clips of each shard, by its number, in the order of the dataset.
        estimates: whether estimators make the flow, which must then be here.
    """

    estimates: ClassVar[bool] = True

    specs: tuple[FlowSpec, ...]
    sizes: Mapping[int, int]

    @abstractmethod
    def files(self, shard: int) -> ShardFiles:
        """What a shard is written to."""

    @abstractmethod
    def tasks(self, shards: Container[int]) -> Iterator[Task]:
        """The tasks of some shards."""
