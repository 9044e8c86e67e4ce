"""A layer to files that other programs read; the names are those that an import reads."""

from dataclasses import dataclass

from distributed import Client

from flow_cache import decode_field
from flow_cache.flow_files import Kind, write_flow
from pipeline.building.shard import settle_worker
from pipeline.cluster import announce_clip, heard_clips, run_tasks
from pipeline.exchange.file_names import file_name
from pipeline.records import Progress
from shards import Dataset, Layer, ShardReader, Store, UsageError


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """A layer to write as files.

    Attributes:
        dataset: where it is.
        layer: its name.
        folder: to write to.
        kind: of the files.
    """

    dataset: Store
    layer: str
    folder: Store
    kind: Kind

    def shard(self, number: int) -> int:
        """Write the files of one shard; returns how many.

        Raises:
            UsageError: a file of this kind cannot hold a field.
            DamagedDataset: a field is not what was written.
        """
        settle_worker()
        dataset = Dataset(self.dataset)
        layer = dataset.manifest.layers[self.layer]
        reader, written = ShardReader(dataset, layer), 0
        first = sum(dataset.shard_rows[:number])
        rows = dataset.rows(
            dataset.shards[number], ["key", "pair_source", "pair_target"], layer
        ).to_pylist()
        for row, place in enumerate(rows, first):
            pairs = list(zip(place["pair_source"], place["pair_target"], strict=True))
            for pair, blob in zip(pairs, reader.fields(row, pairs), strict=True):
                self._write(file_name(place["key"], pair, self.kind), blob)
            written += len(pairs)
            announce_clip()
        return written

    def _write(self, name: str, blob: bytes) -> None:
        field = decode_field(blob).field
        try:
            data = write_flow(field.flow[0], field.visible[0], self.kind)
        except ValueError as error:
            raise UsageError(f"{self.folder.at(name)}: {error}") from error
        self.folder.write(name, data)


def export_layer(
    dataset: Dataset, layer: Layer, folder: Store, kind: Kind, client: Client, progress: Progress
) -> int:
    """Write each field of a layer as a file; returns how many. Each file appears whole.

    Raises:
        UsageError: a file of this kind cannot hold a field.
        DamagedDataset: a field is not what was written.
    """
    export = Export(dataset=dataset.store, layer=layer.name, folder=folder, kind=kind)
    written, clips = 0, 0

    def hear() -> None:
        nonlocal clips
        clips += 1
        progress("files", min(clips, len(dataset)), len(dataset))

    with heard_clips(client, hear):
        for _, result in run_tasks(client, export.shard, range(len(dataset.shards))):
            if isinstance(result, Exception):
                raise result
            written += result
    return written
