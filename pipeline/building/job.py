"""The build job: plan the clips, build the shards that are missing, close the manifest.

Metadata travels between processes, pixels never do. Killed at any moment and started again, it
ends with the same bytes: what is committed is kept, the rest is redone.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from distributed import Client

from flow_cache import FlowSpec
from flow_cache.estimators import load_estimator
from flow_cache.estimators.estimate import check_estimator
from flow_cache.reuse.catalog import Catalog
from flow_cache.reuse.copying import find_stored, register
from flow_cache.reuse.entries import StoredShard
from pipeline.building.costs import Costs
from pipeline.building.shard import REJECTS_KEY, ShardTask, build_shard
from pipeline.cluster import heard_clips, run_tasks
from pipeline.planning.clip_plan import Progress, inputs_digest, plan, read_plan
from pipeline.planning.clip_table import reject_table
from pipeline.planning.config import BuildConfig, flow_specs
from pipeline.records import Reject, Source
from pipeline.source.rgb import REVISION
from shards.index import read_manifest, sha256, write_manifest
from shards.schema import shard_name
from shards.store import is_local, join, read_bytes, remove_unfinished
from shards.writer import write_table


class _Shard(Protocol):
    """What a task of any kind says about itself."""

    @property
    def shard(self) -> int: ...

    @property
    def rows(self) -> pa.Table: ...


Task = TypeVar("Task", bound=_Shard)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a build did.

    Attributes:
        inputs: videos given.
        clips: clips in the dataset; 0 if a shard failed.
        built, kept: shards written now, and shards that were committed before.
        failed: the error of each shard that could not be built.
        rejects: every input and every clip refused.
        costs: what was copied and computed, how long it took, and what could not be reused.
    """

    inputs: int
    clips: int
    built: int
    kept: int
    failed: dict[str, str]
    rejects: list[Reject]
    costs: Costs = field(default_factory=Costs)

    def exit_code(self, *, strict: bool) -> int:
        """0 if every accepted clip is committed, 1 if a shard failed or nothing could be built.

        `strict` makes any reject a 1, too.
        """
        return int(not self.clips or bool(self.failed) or (strict and bool(self.rejects)))


def run_build(
    sources: Sequence[Source],
    missing: Sequence[Reject],
    url: str,
    config: BuildConfig,
    client: Client,
    progress: Progress,
    catalog: Catalog | None = None,
) -> Outcome:
    """Build the dataset at `url`, or continue it: inputs that it has not seen add shards.

    All flow layers of the dataset grow, also those that were added later.

    Args:
        sources, missing: what `inputs.find_sources` found, and what it did not.
        catalog: where to look for flow that exists, and to enter this dataset's.

    Raises:
        ValueError: `url` holds a dataset of another configuration, or something else; or an
            estimator here is not the one that made the dataset's flow.
    """
    manifest = open_build(url, config)
    remove_unfinished(url)
    inputs = inputs_digest(sources, missing)
    if manifest["inputs"] != inputs:
        plan(sources, missing, url, config, client, progress)
        if manifest["state"] == "building":
            write_manifest(url, {**manifest, "inputs": inputs})
    table, rejects = read_plan(url)  # as a rerun reads them: a table in memory differs in details
    specs = tuple(FlowSpec.from_json(layer["spec"]) for layer in manifest["layers"].values())
    tasks = shard_tasks(table, url, config, specs)
    pending = [task for task in tasks if not task.committed]
    pending, warnings = with_stored(pending, catalog)
    failed, costs = run_shards(client, build_shard, pending, partial(progress, "build"))
    clips = 0
    if not failed:
        clips, rejects = close_build(url, tasks, specs, rejects, {**manifest, "inputs": inputs})
        warnings |= set(register(catalog, url))
    return Outcome(
        inputs=len(sources) + len(missing),
        clips=clips,
        built=len(pending) - len(failed),
        kept=len(tasks) - len(pending),
        failed=failed,
        rejects=rejects,
        costs=costs + Costs(warnings=warnings),
    )


def open_build(url: str, config: BuildConfig) -> dict[str, Any]:
    """The manifest of the dataset at `url`, started if there is none.

    Raises:
        ValueError: see `run_build`; the message names what differs.
    """
    try:
        manifest = read_manifest(url)
    except FileNotFoundError:
        if is_local(url) and Path(url).exists() and any(Path(url).iterdir()):
            raise ValueError(
                f"{url} is not empty and holds no dataset; give a new folder for the output"
            ) from None
        layers = {spec.layer: {"spec": spec.to_json(), "shards": {}} for spec in flow_specs(config)}
        manifest = {"state": "building", "config": config.to_json(), "inputs": None}
        manifest["layers"] = layers
        write_manifest(url, manifest)
        return manifest
    if "merged" in manifest:
        raise ValueError(f"{url} is merged of {manifest['merged']}: add the videos to one of these")
    if differences := config.differences(manifest["config"]):
        listed = "\n  ".join(differences)
        raise ValueError(
            f"{url} was built with another configuration:\n  {listed}\n"
            "Give the same settings to continue it, or another output folder"
        )
    return manifest


def shard_tasks(
    table: pa.Table, url: str, config: BuildConfig, specs: tuple[FlowSpec, ...]
) -> list[ShardTask]:
    """One task for each shard of the clip table."""
    return [
        ShardTask(
            url=url,
            shard=shard,
            rows=table.filter(pc.field("shard") == shard),
            config=config,
            specs=specs,
        )
        for shard in table["shard"].unique().to_pylist()
    ]


def with_stored(
    tasks: Sequence[ShardTask], catalog: Catalog | None
) -> tuple[list[ShardTask], frozenset[str]]:
    """The tasks, told where flow of their clips is stored already; and warnings.

    Raises:
        ValueError: they cannot be built with the estimators that are here.
    """
    stored: list[dict[str, tuple[StoredShard, ...]]] = [{} for _ in tasks]
    warnings: frozenset[str] = frozenset()
    for spec in tasks[0].specs if tasks else ():
        check_live(spec)
        if spec.frames_from == "source":  # what a stored clip's bytes will be is not known yet
            shards, noticed = find_stored(catalog, spec, [task.rows for task in tasks])
            warnings |= noticed
            for layers, found in zip(stored, shards, strict=True):
                layers[spec.layer] = found
    return [replace(task, stored=s) for task, s in zip(tasks, stored, strict=True)], warnings


def check_live(spec: FlowSpec) -> None:
    """Raise ValueError unless the estimator and the frames that made a layer are here again."""
    try:
        check_estimator(load_estimator(spec.estimator, **spec.params), spec)
        if spec.frames_revision != REVISION:
            raise ValueError(f"frames are of revision {REVISION}, its are {spec.frames_revision}")
    except ValueError as error:
        raise ValueError(
            f"layer {spec.layer} cannot be extended here: {error}. Install what made it, or build "
            "a new dataset"
        ) from error


def run_shards(
    client: Client,
    build: Callable[[Task], Costs],
    tasks: Sequence[Task],
    progress: Callable[[int, int], None],
) -> tuple[dict[str, str], Costs]:
    """Build shards on the cluster; returns the error of each that failed, and what they cost."""
    failed, costs = {}, Costs()
    finished, shown, total = 0, 0, sum(len(task.rows) for task in tasks)

    def show(clips: int) -> None:
        nonlocal shown
        shown = min(max(shown, clips), total)  # a task that is run again announces clips again
        progress(shown, total)

    show(0)
    with heard_clips(client, lambda: show(shown + 1)):
        for index, result in run_tasks(client, build, tasks):
            if isinstance(result, Costs):
                costs += result
            else:
                failed[shard_name(tasks[index].shard)] = f"{type(result).__name__}: {result}"
            finished += len(tasks[index].rows)
            show(finished)
    return failed, costs


def close_build(
    url: str,
    tasks: Sequence[ShardTask],
    specs: Sequence[FlowSpec],
    rejects: Sequence[Reject],
    manifest: dict[str, Any],
) -> tuple[int, list[Reject]]:
    """Write the complete list of rejects and the final manifest.

    Returns the number of clips in the dataset and all rejects.
    """
    shards, rejects = {}, list(rejects)
    for task in tasks:
        name, data = shard_name(task.shard), read_bytes(f"{task.clips_stem}.parquet")
        file = pq.ParquetFile(pa.BufferReader(data))
        shards[name] = {"clips": file.metadata.num_rows, "sha256": sha256(data)}
        rejects += [Reject(**row) for row in json.loads(file.schema_arrow.metadata[REJECTS_KEY])]
    write_table(join(url, "rejects.parquet"), reject_table(rejects))
    names = ("clips.parquet", "rejects.parquet")
    layers = {
        spec.layer: {
            "spec": spec.to_json(),
            "shards": {
                shard_name(task.shard): sha256(read_bytes(f"{task.flow_stem(spec)}.parquet"))
                for task in tasks
            },
        }
        for spec in specs
    }
    write_manifest(
        url,
        {
            **manifest,
            "state": "complete",
            "shards": shards,
            "layers": layers,
            "tables": {name: sha256(read_bytes(join(url, name))) for name in names},
        },
    )
    return sum(shard["clips"] for shard in shards.values()), rejects
