"""Building shards on Dask, whatever kind they are of: those that are missing, once each.

Metadata travels between processes, pixels never do. Killed at any moment and started again, a job
ends with the same bytes: what is committed is kept, the rest is redone.
"""

import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import Self, TypeVar

from distributed import Client

from flow_cache import FlowEstimator, FlowSpec, check_estimator, load_estimator
from flow_cache.reuse.catalog import Catalog
from flow_cache.reuse.copying import find_stored, register
from flow_cache.reuse.entries import StoredShard
from pipeline.building.commits import Commit, ShardFiles, look
from pipeline.building.costs import Costs
from pipeline.building.pieces import Split, split_last
from pipeline.building.task import Shards, Task
from pipeline.cluster import heard_clips, run_tasks
from pipeline.planning.config import FRAMES_REVISION
from pipeline.progress import PATIENCE_S
from pipeline.records import Reject
from pipeline.source.content import SourceChanged
from shards import DamagedDataset, Store, UsageError
from shards.schema import shard_name

Item = TypeVar("Item")

_WHOLE_CLIP = 3  # times the patience
_LOOK = 64  # shards that are looked at, or looked up in the catalog, together


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a job did.

    Attributes:
        inputs: videos given.
        clips: clips in the dataset; 0 if a shard failed and it was not closed without that.
        built, kept: shards written now, and shards that were committed before.
        unscanned: why there is no result of an input, by path; the next run tries it again.
        failed: the error of each shard that could not be built.
        rejects: every input and every clip refused.
        changed: source videos that are not those that were scanned any more.
        costs: what was copied and computed, how long it took, and what could not be reused.
        commits: what each shard holds, by its number.
    """

    inputs: int = 0
    clips: int = 0
    built: int = 0
    kept: int = 0
    unscanned: Mapping[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    changed: Collection[str] = ()
    rejects: list[Reject] = field(default_factory=list)
    costs: Costs = field(default_factory=Costs)
    commits: Mapping[int, Commit] = field(default_factory=dict)

    def exit_code(self, *, strict: bool) -> int:
        """0 if every accepted clip is committed, 1 if anything failed or nothing could be built.

        `strict` makes any reject a 1, too.
        """
        lost = self.unscanned or self.failed or not self.clips
        return int(bool(lost or (strict and self.rejects)))

    def registered(self, catalog: Catalog | None, store: Store) -> Self:
        """The same, with the finished dataset's flow entered into a catalog."""
        return replace(self, costs=self.costs + Costs(warnings=register(catalog, store)))


class Tally:
    """What tasks have come to so far, and the progress that it makes.

    Attributes:
        failed: the error of each shard that could not be built, by name.
        changed: paths of source videos that are not those that were scanned.
        costs: of all tasks.
    """

    def __init__(self, clips: int, progress: Callable[[int, int], None]) -> None:
        self.failed: dict[str, str] = {}
        self.changed: set[str] = set()
        self.costs = Costs()
        self._finished, self._shown, self._total = 0, 0, clips
        self._progress = progress
        self._show(0)

    def hear(self) -> None:
        """A clip is done somewhere."""
        self._show(self._shown + 1)

    def note(self, shard: int, result: Costs | Exception, *, clips: int = 0) -> None:
        """A task has ended, and so many clips with it."""
        if isinstance(result, Costs):
            self.costs += result
        else:
            self.failed.setdefault(shard_name(shard), f"{type(result).__name__}: {result}")
            self.changed |= {result.path} if isinstance(result, SourceChanged) else set()
        self._finished += clips
        self._show(self._finished)

    def has_failed(self, shard: int) -> bool:
        """Whether a shard has, or a piece of it."""
        return shard_name(shard) in self.failed

    def _show(self, clips: int) -> None:
        """A task that is run again announces its clips again: nothing goes back or beyond."""
        self._shown = min(max(self._shown, clips), self._total)
        self._progress(self._shown, self._total)


def build_shards(
    shards: Shards,
    client: Client,
    progress: Callable[[int, int], None],
    *catalogs: Catalog | None,
) -> Outcome:
    """Build the shards that are not committed or are damaged, with flow from the catalogs.

    Raises:
        UsageError: they cannot be built with the estimators that are here.
        DamagedDataset: a file that was sound is not any more.
    """
    there, damaged = look_at(client, committed(shards))
    pending = {shard: clips for shard, clips in shards.sizes.items() if shard not in there}
    live = [check_live(spec) for spec in shards.specs if pending and shards.estimates]
    # Flow of a whole clip is one step, which tells of no progress.
    patience_s = PATIENCE_S * (_WHOLE_CLIP if any(each.whole_clip for each in live) else 1)
    warnings = {f"{problem}; its shard is built again" for problem in damaged}
    tasks = told(shards.tasks(pending), catalogs, warnings)
    on_gpu = any(spec.weights_sha256 for spec in shards.specs)  # networks have weights
    tally = run_shards(client, tasks, sum(pending.values()), progress, patience_s, on_gpu=on_gpu)
    built = [shard for shard in pending if not tally.has_failed(shard)]
    new, problems = look_at(client, map(shards.files, built))
    if problems:
        raise DamagedDataset(f"{problems[0]}, though it has just been written: run it again")
    return Outcome(
        built=len(built),
        kept=len(there),
        failed=tally.failed,
        changed=tally.changed,
        costs=tally.costs + Costs(warnings=frozenset(warnings)),
        commits={**there, **new},
    )


def committed(shards: Shards) -> Iterator[ShardFiles]:
    """The files of the shards that were written once, whatever became of them."""
    names: dict[str, set[str]] = {}  # of the folder with the files that commit
    for files in map(shards.files, shards.sizes):
        folder = files.stems[-1].rpartition("/")[0]
        if folder not in names:
            names[folder] = {*files.store.files(folder)}
        if files.recorded or f"{files.stems[-1]}.parquet" in names[folder]:
            yield files


def look_at(client: Client, shards: Iterable[ShardFiles]) -> tuple[dict[int, Commit], list[str]]:
    """What shards hold, by number, and what is wrong with the others."""
    commits: dict[int, Commit] = {}
    problems: list[str] = []
    for _, result in run_tasks(client, look, batches(shards, _LOOK)):
        if isinstance(result, Exception):
            raise result
        for shard, found in result:
            if isinstance(found, Commit):
                commits[shard] = found
            else:
                problems += found
    return commits, problems


def batches(items: Iterable[Item], size: int) -> Iterator[tuple[Item, ...]]:
    """The items, so many at a time."""
    items = iter(items)
    while batch := tuple(islice(items, size)):
        yield batch


def told(
    tasks: Iterable[Task], catalogs: Sequence[Catalog | None], warnings: set[str]
) -> Iterator[Task]:
    """The tasks, told where flow of their clips is stored already; `warnings` grow."""
    for batch in batches(tasks, _LOOK):
        found, noticed = with_stored(batch, *catalogs)
        warnings |= noticed
        yield from found


def with_stored(
    tasks: Sequence[Task], *catalogs: Catalog | None
) -> tuple[list[Task], frozenset[str]]:
    """The tasks, told where flow of their clips is stored already; and warnings."""
    stored: list[dict[str, tuple[StoredShard, ...]]] = [{} for _ in tasks]
    tables = [task.rows for task in tasks]
    warnings: frozenset[str] = frozenset()
    for spec in tasks[0].specs if tasks else ():
        if spec.frames_from == "clip" and "mp4_crc32" not in tasks[0].rows.column_names:
            continue  # what a stored clip's bytes will be is not known yet
        for catalog in catalogs:
            shards, noticed = find_stored(catalog, spec, tables)
            warnings |= noticed
            for layers, found in zip(stored, shards, strict=True):
                layers[spec.layer] = layers.get(spec.layer, ()) + found
    return [replace(task, stored=s) for task, s in zip(tasks, stored, strict=True)], warnings


def check_live(spec: FlowSpec) -> FlowEstimator:
    """The estimator that made a layer; UsageError unless it and the frames are here again."""
    try:
        estimator = load_estimator(spec.estimator, **spec.params)
        check_estimator(estimator, spec)
        if spec.frames_revision != (here := FRAMES_REVISION[spec.frames_from]):
            raise ValueError(f"frames are of revision {here}, its are {spec.frames_revision}")
    except ValueError as error:
        raise UsageError(
            f"layer {spec.layer} cannot be extended here: {error}. Install what made it, or build "
            "a new dataset"
        ) from error
    return estimator


def run_shards(
    client: Client,
    tasks: Iterable[Task],
    clips: int,
    progress: Callable[[int, int], None],
    patience_s: float = PATIENCE_S,
    *,
    on_gpu: bool = False,
) -> Tally:
    """Build shards on the cluster, whole or in pieces.

    Args:
        clips: in all tasks together.
        patience_s, on_gpu: see `run_tasks`.
    """
    tally = Tally(clips, progress)
    splits: list[Split] = []
    handed_out: list[tuple[int, int]] = []  # shard and clips of each task, whole or a piece

    def parts() -> Iterator[Task]:
        for split in split_last(tasks, partial(threads, client), job=secrets.token_hex(4)):
            if not split.is_whole:
                splits.append(split)
            for part in split.pieces:
                handed_out.append((part.shard, len(part.rows)))
                yield part

    with heard_clips(client, tally.hear):
        todo = run_tasks(client, run_task, parts(), patience_s=patience_s, on_gpu=on_gpu)
        for index, result in todo:
            shard, count = handed_out[index]
            tally.note(shard, result, clips=count)
    sound = [split for split in splits if not tally.has_failed(split.task.shard)]
    for index, result in run_tasks(client, Split.run, sound):
        tally.note(sound[index].task.shard, result)
    for split in splits:
        if tally.has_failed(split.task.shard):
            split.remove()
    return tally


def run_task(task: Task) -> Costs:
    """On a worker: write the shard, unless an earlier attempt committed it."""
    return Costs() if task.is_done else task.run()


def threads(client: Client) -> int:
    """How many tasks the cluster's workers run at once, now."""
    return sum(client.nthreads().values())
