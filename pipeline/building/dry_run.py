"""What a build would make and cost, from building a random sample of its clips for real."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from distributed import Client

from flow_cache import FlowSpec
from flow_cache.reuse.catalog import Catalog
from pipeline.building.costs import Costs
from pipeline.building.job import batches, with_stored
from pipeline.building.make_dataset import Build, found_manifest
from pipeline.building.shard import ShardTask
from pipeline.building.task import Task
from pipeline.cluster import run_tasks
from pipeline.planning.clip_plan import blocks, groups_of, regroup
from pipeline.planning.config import flow_specs
from pipeline.planning.plan_dataset import KNOWN_BY, Addition, Inputs, first_free
from pipeline.planning.plan_files import (
    as_planned,
    read_files,
    settled_files,
    stored_rows,
    stored_shards,
)
from shards import Store, read_table
from shards.schema import CLIP_MEMBERS

_SEED = 0
_RUN = 2  # neighbouring clips that are built together
_FIRST, _MORE, _MOST = 12, 8, 256  # runs that are built at first, then together, and at most
_ENOUGH = 0.06  # standard error of every size, as a share of it: 20 % is three times that
_TABLE = 4096  # clips that are looked at together
CLIPS = "clips"


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """A run of clips of the sample.

    Attributes:
        clips: how many there are.
        bytes: of their members, under `clips` and the name of each layer.
        costs: of making them.
    """

    clips: int
    bytes: Mapping[str, int]
    costs: Costs


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """What a build would add to a dataset, and cost.

    Attributes:
        clips, shards: that it would build.
        bytes: of the members in the clips' tars, under `clips`, and in those of each layer.
        fields: that would be stored, by layer.
        copied: share of them that would be copied from the flow cache, by layer.
        core_seconds: of work, on cores like those that built the sample.
        sampled: clips that were built to know this.
        error: standard error of the bytes, as a share of them; of those that are known worst.
        failed: why runs of the sample could not be built, by their first clip.
    """

    clips: int = 0
    shards: int = 0
    bytes: Mapping[str, float] = field(default_factory=dict)
    fields: Mapping[str, float] = field(default_factory=dict)
    copied: Mapping[str, float] = field(default_factory=dict)
    core_seconds: float = 0.0
    sampled: int = 0
    error: float = 0.0
    failed: Mapping[str, str] = field(default_factory=dict)


def predict(build: Build, inputs: Inputs) -> Prediction:
    """What a build of these inputs would add to its dataset, where nothing is written.

    Runs of neighbouring clips are drawn at random, the same ones each time, and built in temporary
    folders of the workers, until every size is known well or all are built.

    Raises:
        UsageError: the build would be refused.
    """
    store, config = build.store, build.config
    manifest = found_manifest(store, config)
    specs, settled = flow_specs(config), dict[str, str]()
    if manifest is not None:
        specs = tuple(FlowSpec.from_json(layer.spec) for layer in manifest.layers.values())
        settled = settled_files(manifest)
    new = inputs.besides(read_files(store, settled, KNOWN_BY))
    first = first_free(read_files(store, settled, ["shard"]))
    done = pa.array(_built(store, new, config.clips_per_shard, first) if manifest else [], "string")

    def clips() -> Iterator[pa.Table]:
        tables = (t.filter(pc.invert(pc.is_in(t["key"], done))) for t in new.clips())
        return regroup(tables if len(done) else new.clips(), _TABLE)

    sizes = [(len(table), int(groups_of(table, _RUN)[-1]) + 1) for table in clips() if len(table)]
    total, runs = (sum(numbers) for numbers in zip(*sizes, strict=True)) if sizes else (0, 0)
    draw = np.random.default_rng(_SEED).choice(runs, min(runs, _MOST), replace=False)
    tasks = [
        ShardTask(store=store, shard=0, rows=rows, specs=specs, crf=config.crf)
        for rows in chosen_runs(clips(), draw)
    ]
    built, failed = build_sample(
        tasks, runs, build.client, partial(build.progress, "sample"), build.catalog
    )
    shards = -(-total // config.clips_per_shard)
    told = replace(extrapolated(built, total), shards=shards, failed=failed)
    return replace(told, error=uncertainty(built, runs)) if len(built) > 1 else told


def _built(store: Store, new: Addition, per_shard: int, first: int) -> list[str]:
    """Keys of new clips whose shards, from `first` on, an unfinished build left as it is to be."""
    keys: list[str] = []
    if stored := stored_shards(store, first):
        for table in blocks(new.clips(), per_shard, count(first)):
            for shard in as_planned(store, stored, table):
                keys += stored_rows(store, shard)["key"].to_pylist()
    return keys


def chosen_runs(tables: Iterator[pa.Table], draw: np.ndarray) -> list[pa.Table]:
    """The rows of some runs of neighbouring clips, in the order in which they were drawn."""
    wanted = {int(run) for run in draw}
    found: dict[int, pa.Table] = {}
    before = 0
    for table in tables:
        groups = groups_of(table, _RUN) + before
        for run in sorted(wanted & {*groups.tolist()}):
            found[run] = table.take(pa.array(np.flatnonzero(groups == run)))
        before = int(groups[-1]) + 1
    return [found[int(run)] for run in draw]


def build_sample(
    tasks: Sequence[ShardTask],
    runs: int,
    client: Client,
    progress: Callable[[int, int], None],
    catalog: Catalog | None,
) -> tuple[list[Built], dict[str, str]]:
    """What the first tasks gave, as many as are needed, and why others failed.

    Args:
        runs: that there are in all.
    """
    built: list[Built] = []
    failed: dict[str, str] = {}
    parts = [tuple(tasks[:_FIRST]), *batches(tasks[_FIRST:], _MORE)]
    total = 0
    for part in parts:
        total += len(part)
        told, _ = with_stored(part, catalog)
        for index, result in run_tasks(client, build_run, told):
            if isinstance(result, Exception):
                failed[part[index].rows["key"][0].as_py()] = f"{type(result).__name__}: {result}"
            else:
                built.append(result)
            progress(len(built) + len(failed), total)
        if len(built) > 1 and uncertainty(built, runs) <= _ENOUGH:
            break
    return built, failed


def build_run(task: Task) -> Built:
    """On a worker: build a few clips, and throw them away."""
    with TemporaryDirectory(prefix="fluxshard-") as folder:
        task = replace(task, store=Store(folder))
        costs = task.run()
        clips = read_table(task.store, f"{task.stems[-1]}.parquet")
        layers = {
            spec.layer: read_table(task.store, f"{task.layer_stem(spec)}.parquet")
            for spec in task.specs
        }
    sizes = {CLIPS: sum(_total(clips[f"{member}_size"]) for member in CLIP_MEMBERS)}
    sizes |= {name: _total(table["flow_size"]) for name, table in layers.items()}
    return Built(clips=len(task.rows), bytes=sizes, costs=costs)


def _total(column: pa.ChunkedArray) -> int:
    return pc.sum(column).as_py() or 0


def uncertainty(built: Sequence[Built], runs: int) -> float:
    """The largest relative standard error of the bytes for each clip, of a sample of all runs."""
    clips = np.array([run.clips for run in built], float)
    left = max(0.0, 1 - len(built) / runs)
    errors = [0.0]
    for name in built[0].bytes:
        sizes = np.array([run.bytes[name] for run in built], float)
        if sizes.any():
            spread = sizes - clips * sizes.sum() / clips.sum()
            variance = left * (spread**2).sum() / (len(built) - 1) / len(built)
            errors.append(float(np.sqrt(variance) / sizes.mean()))
    return max(errors)


def extrapolated(built: Sequence[Built], clips: int) -> Prediction:
    """The sample's sizes and costs, for all clips."""
    sampled = sum(run.clips for run in built)
    if not sampled:
        return Prediction(clips=clips)
    scale = clips / sampled
    costs = sum((run.costs for run in built), Costs())
    reused: Counter[str] = Counter()
    for (layer, _), number in costs.reused.items():
        reused[layer] += number
    names = [name for name in built[0].bytes if name != CLIPS]
    fields = {name: reused[name] + costs.computed[name] for name in names}
    return Prediction(
        clips=clips,
        bytes={name: scale * sum(run.bytes[name] for run in built) for name in built[0].bytes},
        fields={name: scale * fields[name] for name in names},
        copied={name: reused[name] / max(1, fields[name]) for name in names},
        core_seconds=scale * sum(costs.seconds.values()),
        sampled=sampled,
    )
