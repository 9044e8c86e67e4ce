"""Shards of any kind on a cluster: what is there is kept, what fails is named, all is added up."""

from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pytest
from distributed import Client

from flow_cache import FlowSpec
from flow_cache.occlusion import DEFAULT_CRITERION
from pipeline.building.commits import ShardFiles
from pipeline.building.costs import Costs
from pipeline.building.job import Outcome, build_shards, check_live
from pipeline.building.task import Shards, Task
from pipeline.records import Reject
from shards.store import Store, UsageError
from shards.writer import shard_tar, write_table
from tests.clusters import in_this_process


@dataclass(frozen=True, kw_only=True, slots=True)
class Note(Task):
    """A shard of one empty tar."""

    fails: bool = False

    @property
    def stems(self) -> tuple[str, ...]:
        return (f"clips/{self.shard}",)

    def run(self) -> Costs:
        if self.fails:
            raise RuntimeError("disk on fire")
        (stem,) = self.stems
        with shard_tar(self.store, f"{stem}.tar"):
            pass
        table = pa.table({"txt_offset": pa.array([], "i8"), "txt_size": pa.array([], "i8")})
        write_table(self.store, f"{stem}.parquet", table)
        return Costs(computed=Counter(toy=len(self.rows)), seconds={"flow": 1.0})


class Notes(Shards):
    """Tasks that are all there."""

    def __init__(self, tasks: Sequence[Note]) -> None:
        self._tasks = {task.shard: task for task in tasks}
        self.specs, self.sizes = (), {task.shard: len(task.rows) for task in tasks}

    def files(self, shard: int) -> ShardFiles:
        return self._tasks[shard].files

    def tasks(self, shards: Container[int]) -> Iterator[Note]:
        return (task for shard, task in self._tasks.items() if shard in shards)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with in_this_process() as client:
        yield client


def notes(folder: Path, count: int) -> list[Note]:
    rows = pa.table({"key": ["a", "b"]})
    return [Note(store=Store(folder), shard=n, rows=rows, specs=()) for n in range(count)]


def test_shards_are_built_once_and_their_costs_added_up(client: Client, tmp_path: Path):
    tasks = notes(tmp_path, 4)
    tasks[2].run()
    seen: list[tuple[int, int]] = []
    outcome = build_shards(Notes(tasks), client, lambda *step: seen.append(step), None)
    assert (outcome.built, outcome.kept, outcome.failed) == (3, 1, {})
    assert outcome.costs.computed == Counter(toy=6)
    assert outcome.costs.seconds == {"flow": 3.0}
    assert (seen[0], seen[-1]) == ((0, 6), (6, 6))
    assert {shard: commit.clips for shard, commit in outcome.commits.items()} == dict.fromkeys(
        range(4), 0
    )
    assert build_shards(Notes(tasks), client, lambda *_: None, None).kept == 4


def test_a_shard_that_fails_is_named_and_costs_no_other(client: Client, tmp_path: Path):
    first, second, third = notes(tmp_path, 3)
    tasks = [first, replace(second, fails=True), third]
    outcome = build_shards(Notes(tasks), client, lambda *_: None, None)
    assert outcome.failed == {"000001": "RuntimeError: disk on fire"}
    assert (outcome.built, outcome.exit_code(strict=False)) == (2, 1)


@pytest.mark.parametrize(
    ("change", "strict", "code"),
    [({}, False, 0), ({}, True, 1), ({"clips": 0}, False, 1), ({"failed": {"0": "x"}}, False, 1)],
)
def test_exit_codes(change: dict, strict: bool, code: int):
    reject = Reject(path="/a", sha256=None, stage="probe", reason="empty", detail="no bytes")
    outcome = Outcome(inputs=2, clips=3, built=1, kept=0, failed={}, rejects=[reject])
    assert replace(outcome, **change).exit_code(strict=strict) == code


def test_a_layer_of_an_estimator_that_is_not_here_is_refused():
    spec = FlowSpec(
        estimator="dis",
        revision="opencv-99",
        params={"preset": "medium"},
        weights_sha256=None,
        size=(48, 64),
        occlusion=DEFAULT_CRITERION,
        levels=(1,),
        max_error_px=1 / 32,
        frames_from="source",
    )
    with pytest.raises(UsageError, match=r"cannot be extended here.*opencv-99.*Install what made"):
        check_live(spec)
