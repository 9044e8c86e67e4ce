"""Files of flow to a layer of a dataset: all are looked at before anything is written."""

from collections.abc import Container, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from distributed import Client

from flow_cache import FlowSpec
from pipeline.building.add_layer import LayerShards, LayerTask, check_not_merged
from pipeline.building.job import batches
from pipeline.building.layer_writer import LayerWriter
from pipeline.building.shard import settle_worker
from pipeline.cluster import JobClient, run_tasks
from pipeline.exchange.file_names import Found, Names, find_layer
from pipeline.exchange.imported_flow import ImportedFlow, imported_spec, read_files
from pipeline.records import Progress
from shards import Clip, Dataset, Store, UsageError

_LOOK = 8  # clips whose files are looked at by one task


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipFiles:
    """The files of one clip.

    Attributes:
        names: by pair.
        sha256: of what they hold.
    """

    names: Names
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportTask(LayerTask):
    """One shard of a layer of files.

    Attributes:
        folder: where the files are.
        given: the files of each clip of the shard, by key.
    """

    folder: Store
    given: Mapping[str, ClipFiles]

    def open_layers(self, stack: ExitStack) -> list[LayerWriter]:
        return self.open_writers(stack, self._files_of)

    def _files_of(self, clip: Clip) -> ImportedFlow:
        files = self.given[clip.key]
        return ImportedFlow(
            spec=self.specs[0], folder=self.folder, names=files.names, sha256=files.sha256
        )


class ImportShards(LayerShards):
    """The shards of a layer of files."""

    estimates = False

    def __init__(
        self, dataset: Dataset, spec: FlowSpec, folder: Store, files: Mapping[str, ClipFiles]
    ) -> None:
        super().__init__(dataset, spec)
        self._folder, self._clip_files = folder, files

    def tasks(self, shards: Container[int]) -> Iterator[ImportTask]:
        for task in super().tasks(shards):
            keys = task.rows["key"].to_pylist()
            facts: dict[str, Any] = {f.name: getattr(task, f.name) for f in fields(task)}
            yield ImportTask(
                **facts, folder=self._folder, given={key: self._clip_files[key] for key in keys}
            )


def imported_shards(
    dataset: Dataset,
    folder: Store,
    name: str,
    client: Client,
    progress: Progress,
    *,
    levels: tuple[int, ...] = (),
) -> ImportShards:
    """The shards of a layer `imported:name`, to be built by `build_layer`; reads every file.

    Args:
        folder: see `file_names`; all workers must see it.
        levels: frame distances to take; by default all that there are.

    Raises:
        UsageError: files are missing, double, damaged, or not of the clips.
    """
    check_not_merged(dataset)
    try:
        found = find_layer(folder.files(), _frames(dataset), levels)
    except UsageError as error:
        raise UsageError(f"{folder.url}: {error}") from error
    size = tuple(dataset.manifest.config["size"])
    digests = _look(folder, found, size, client, progress)
    spec = imported_spec(name, found, digests, size)
    files = {key: ClipFiles(names=names, sha256=digests[key]) for key, names in found.clips.items()}
    if found.unused and isinstance(client, JobClient):
        client.tell(
            f"{folder.url}: {found.unused:,} files of flow are left out; they are of other clips, "
            "or no level has their pair"
        )
    return ImportShards(dataset, spec, folder, files)


def _frames(dataset: Dataset) -> dict[str, int]:
    """How many frames each clip has, by key."""
    columns = ["key", "frames"]
    tables = (rows.select(columns).to_pydict() for rows in dataset.each(columns))
    return {key: n for rows in tables for key, n in zip(rows["key"], rows["frames"], strict=True)}


def _look(
    folder: Store, found: Found, size: tuple[int, int], client: Client, progress: Progress
) -> dict[str, str]:
    """SHA-256 of each clip's files, by key, in the order of the keys; each file is read."""
    digests: dict[str, str] = {}
    look = partial(_digests, folder, size)
    for _, result in run_tasks(client, look, batches(found.clips.items(), _LOOK)):
        if isinstance(result, Exception):
            raise result
        digests |= result
        progress("files", len(digests), len(found.clips))
    return dict(sorted(digests.items()))


def _digests(
    folder: Store, size: tuple[int, int], clips: tuple[tuple[str, Names], ...]
) -> dict[str, str]:
    settle_worker()
    return {key: read_files(folder, names, size)[1] for key, names in clips}
