"""The build job: plan the clips, build the shards that are missing, close the manifest.

Metadata travels between processes, pixels never do. Killed at any moment and started again, it
ends with the same bytes: what is committed is kept, the rest is redone.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from distributed import Client

from pipeline.build import REJECTS_KEY, ShardTask, build_shard
from pipeline.cluster import run_tasks
from pipeline.config import BuildConfig, flow_specs
from pipeline.plan import Progress, inputs_digest, plan, read_plan
from pipeline.records import Reject, Source
from pipeline.tables import reject_table
from shards.index import read_manifest, sha256, write_manifest
from shards.schema import shard_name
from shards.storage import is_local, join, read_bytes, remove_unfinished
from shards.writer import write_table


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a build did.

    Attributes:
        inputs: videos given.
        clips: clips in the dataset; 0 if a shard failed.
        built, kept: shards written now, and shards that were committed before.
        failed: the error of each shard that could not be built.
        rejects: every input and every clip refused.
    """

    inputs: int
    clips: int
    built: int
    kept: int
    failed: dict[str, str]
    rejects: list[Reject]

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
) -> Outcome:
    """Build the dataset at `url`, or continue it: inputs that it has not seen add shards.

    Args:
        sources, missing: what `inputs.find_sources` found, and what it did not.

    Raises:
        ValueError: `url` holds a dataset of another configuration, or something else.
    """
    manifest = open_build(url, config)
    remove_unfinished(url)
    inputs = inputs_digest(sources, missing)
    if manifest["inputs"] != inputs:
        plan(sources, missing, url, config, client, progress)
        if manifest["state"] == "building":
            write_manifest(url, {**manifest, "inputs": inputs})
    table, rejects = read_plan(url)  # as a rerun reads them: a table in memory differs in details
    tasks = shard_tasks(table, url, config)
    pending = [task for task in tasks if not task.committed]
    failed = build_shards(pending, client, progress)
    clips = 0
    if not failed:
        clips, rejects = close_build(url, config, tasks, rejects, {**manifest, "inputs": inputs})
    return Outcome(
        inputs=len(sources) + len(missing),
        clips=clips,
        built=len(pending) - len(failed),
        kept=len(tasks) - len(pending),
        failed=failed,
        rejects=rejects,
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
        manifest = {"state": "building", "config": config.to_json(), "inputs": None}
        write_manifest(url, manifest)
        return manifest
    if differences := config.differences(manifest["config"]):
        listed = "\n  ".join(differences)
        raise ValueError(
            f"{url} was built with another configuration:\n  {listed}\n"
            "Give the same settings to continue it, or another output folder"
        )
    return manifest


def shard_tasks(table: pa.Table, url: str, config: BuildConfig) -> list[ShardTask]:
    """One task for each shard of the clip table."""
    return [
        ShardTask(
            url=url, shard=shard, rows=table.filter(pc.field("shard") == shard), config=config
        )
        for shard in table["shard"].unique().to_pylist()
    ]


def build_shards(tasks: Sequence[ShardTask], client: Client, progress: Progress) -> dict[str, str]:
    """Build the shards on the cluster; returns the error of each that failed."""
    failed = {}
    done, total = 0, sum(len(task.rows) for task in tasks)
    progress("build", done, total)
    for index, result in run_tasks(client, build_shard, tasks):
        if isinstance(result, Exception):
            name = shard_name(tasks[index].shard)
            failed[name] = f"{type(result).__name__}: {result}"
        done += len(tasks[index].rows)
        progress("build", done, total)
    return failed


def close_build(
    url: str,
    config: BuildConfig,
    tasks: Sequence[ShardTask],
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
        for spec in flow_specs(config)
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
