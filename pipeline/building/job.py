"""Building shards on Dask, whatever kind they are of: those that are missing, once each.

Metadata travels between processes, pixels never do. Killed at any moment and started again, a job
ends with the same bytes: what is committed is kept, the rest is redone.
"""

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Self

from distributed import Client

from flow_cache import FlowSpec, check_estimator, load_estimator
from flow_cache.reuse.catalog import Catalog
from flow_cache.reuse.copying import find_stored, register
from flow_cache.reuse.entries import StoredShard
from pipeline.building.costs import Costs
from pipeline.building.pieces import Split, split_last
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
    tally = _Tally(sum(len(task.rows) for task in tasks), progress)
    splits: list[Split] = []
    parts: list[Task] = []  # whole shards, and pieces of the last

    def hand_out() -> Iterator[Task]:
        for split in split_last(tasks, partial(threads, client), job=secrets.token_hex(4)):
            splits.append(split)
            for part in split.pieces:
                parts.append(part)
                yield part

    with heard_clips(client, tally.hear):
        for index, result in run_tasks(client, run_task, hand_out()):
            tally.note(parts[index], result, clips=len(parts[index].rows))
    splits = [split for split in splits if not split.is_whole]
    sound = [split for split in splits if not tally.has_failed(split.task)]
    for index, result in run_tasks(client, Split.run, sound):
        tally.note(sound[index].task, result)
    for split in splits:
        if tally.has_failed(split.task):
            split.remove()
    return tally.failed, tally.costs


def run_task(task: Task) -> Costs:
    """On a worker: write the shard, unless an earlier attempt committed it."""
    return Costs() if task.committed and not task.damage() else task.run()


def threads(client: Client) -> int:
    """How many tasks the cluster's workers run at once, now."""
    return sum(client.nthreads().values())


class _Tally:
    """What tasks have come to so far, and the progress that it makes."""

    def __init__(self, clips: int, progress: Callable[[int, int], None]) -> None:
        self.failed: dict[str, str] = {}
        self.costs = Costs()
        self._finished, self._shown, self._total = 0, 0, clips
        self._progress = progress
        self._show(0)

    def hear(self) -> None:
        """A clip is done somewhere."""
        self._show(self._shown + 1)

    def note(self, task: Task, result: Costs | Exception, *, clips: int = 0) -> None:
        """A task has ended, and so many clips with it."""
        if isinstance(result, Costs):
            self.costs += result
        else:
            self.failed.setdefault(shard_name(task.shard), f"{type(result).__name__}: {result}")
        self._finished += clips
        self._show(self._finished)

    def has_failed(self, task: Task) -> bool:
        """Whether the task's shard has, or a piece of it."""
        return shard_name(task.shard) in self.failed

    def _show(self, clips: int) -> None:
        """A task that is run again announces its clips again: nothing goes back or beyond."""
        self._shown = min(max(self._shown, clips), self._total)
        self._progress(self._shown, self._total)
