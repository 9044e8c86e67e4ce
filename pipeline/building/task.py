"""What travels to a worker: one shard to write, as metadata."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

import pyarrow as pa

from flow_cache import FlowSpec
from flow_cache.reuse.entries import StoredShard
from pipeline.building.costs import Costs
from pipeline.building.layer_writer import LayerWriter
from shards import Store, shard_tar
from shards.schema import shard_name


@dataclass(frozen=True, kw_only=True, slots=True)
class Task(ABC):
    """One shard of a dataset to write: its clips and all layers, or one more layer.

    Attributes:
        store: of the dataset.
        shard: number of the shard.
        rows: of its clips.
        specs: of the flow layers to write.
        stored: where flow of the clips may be already, by layer.
    """

    store: Store
    shard: int
    rows: pa.Table
    specs: tuple[FlowSpec, ...]
    stored: Mapping[str, tuple[StoredShard, ...]] = field(default_factory=dict)

    @property
    @abstractmethod
    def committed(self) -> bool:
        """Whether all that the task writes is there."""

    @abstractmethod
    def run(self) -> Costs:
        """Write it; on a worker."""

    def layer_stem(self, spec: FlowSpec) -> str:
        """Name of the shard's files of a layer, without suffix."""
        return f"flow/{spec.layer}/{shard_name(self.shard)}"

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
