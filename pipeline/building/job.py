"""Building shards on Dask, whatever kind they are of: those that are missing, once each.

Metadata travels between processes, pixels never do. Killed at any moment and started again, a job
ends with the same bytes: what is committed is kept, the rest is redone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

from distributed import Client

from flow_cache import FlowSpec, check_estimator, load_estimator
from flow_cache.reuse.catalog import Catalog
from flow_cache.reuse.copying import find_stored, register
from flow_cache.reuse.entries import StoredShard
from pipeline.building.costs import Costs
from pipeline.building.task import Task
from pipeline.cluster import heard_clips, run_tasks
from pipeline.planning.config import FRAMES_REVISION
from pipeline.records import Reject
from shards import Store, UsageError
from shards.schema import shard_name


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a job did.

    Attributes:
        inputs: videos given.
        clips: clips in the dataset; 0 if a shard failed and it was not closed without that.
        built, kept: shards written now, and shards that were committed before.
        failed: the error of each shard that could not be built.
        rejects: every input and every clip refused.
        costs: what was copied and computed, how long it took, and what could not be reused.
    """

    inputs: int = 0
    clips: int = 0
    built: int
    kept: int
    failed: dict[str, str]
    rejects: list[Reject] = field(default_factory=list)
    costs: Costs = field(default_factory=Costs)

    def exit_code(self, *, strict: bool) -> int:
        """0 if every accepted clip is committed, 1 if a shard failed or nothing could be built.

        `strict` makes any reject a 1, too.
        """
        return int(not self.clips or bool(self.failed) or (strict and bool(self.rejects)))

    def registered(self, catalog: Catalog | None, store: Store) -> Self:
        """The same, with the finished dataset's flow entered into a catalog."""
        return replace(self, costs=self.costs + Costs(warnings=register(catalog, store)))


def build_shards(
    tasks: Sequence[Task],
    client: Client,
    progress: Callable[[int, int], None],
    catalog: Catalog | None,
) -> Outcome:
    """Build the shards that are not committed or are damaged, with flow from the catalog.

    Raises:
        UsageError: they cannot be built with the estimators that are here.
    """
    found = [(task, task.damage() if task.committed else []) for task in tasks]
    pending = [task for task, damage in found if damage or not task.committed]
    mended = frozenset(
        f"{task.store.at(problem.file)}: {problem.what}; its shard is built again"
        for task, damage in found
        for problem in damage
    )
    pending, warnings = with_stored(pending, catalog)
    failed, costs = run_shards(client, pending, progress)
    return Outcome(
        built=len(pending) - len(failed),
        kept=len(tasks) - len(pending),
        failed=failed,
        costs=costs + Costs(warnings=warnings | mended),
    )


def with_stored(
    tasks: Sequence[Task], catalog: Catalog | None
) -> tuple[list[Task], frozenset[str]]:
    """The tasks, told where flow of their clips is stored already; and warnings."""
    stored: list[dict[str, tuple[StoredShard, ...]]] = [{} for _ in tasks]
    warnings: frozenset[str] = frozenset()
    for spec in tasks[0].specs if tasks else ():
        check_live(spec)
        if spec.frames_from == "clip" and "mp4_crc32" not in tasks[0].rows.column_names:
            continue  # what a stored clip's bytes will be is not known yet
        shards, noticed = find_stored(catalog, spec, [task.rows for task in tasks])
        warnings |= noticed
        for layers, found in zip(stored, shards, strict=True):
            layers[spec.layer] = found
    return [replace(task, stored=s) for task, s in zip(tasks, stored, strict=True)], warnings


def check_live(spec: FlowSpec) -> None:
    """Raise UsageError unless the estimator and the frames that made a layer are here again."""
    try:
        check_estimator(load_estimator(spec.estimator, **spec.params), spec)
        if spec.frames_revision != (here := FRAMES_REVISION[spec.frames_from]):
            raise ValueError(f"frames are of revision {here}, its are {spec.frames_revision}")
    except ValueError as error:
        raise UsageError(
            f"layer {spec.layer} cannot be extended here: {error}. Install what made it, or build "
            "a new dataset"
        ) from error


def run_shards(
    client: Client, tasks: Sequence[Task], progress: Callable[[int, int], None]
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
        for index, result in run_tasks(client, run_task, tasks):
            if isinstance(result, Costs):
                costs += result
            else:
                failed[shard_name(tasks[index].shard)] = f"{type(result).__name__}: {result}"
            finished += len(tasks[index].rows)
            show(finished)
    return failed, costs


def run_task(task: Task) -> Costs:
    """On a worker: write the shard, unless an earlier attempt committed it."""
    return Costs() if task.committed and not task.damage() else task.run()
