"""Pieces of a shard: bound, they are the shard, byte for byte; all workers take part."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from distributed import Client

from pipeline.building.costs import Costs
from pipeline.building.job import run_shards, run_task
from pipeline.building.pieces import Split, split_last
from pipeline.building.shard import ShardTask
from pipeline.building.task import Task
from pipeline.cluster import connect
from pipeline.planning.config import BuildConfig, flow_specs
from pipeline.planning.scan import scan_video
from pipeline.records import Reject, Source
from shards import DamagedDataset, shard_tar, write_table
from shards.schema import Clip
from shards.store import TEMPORARY_PREFIX, Store

CONFIG = BuildConfig(size=(48, 64), frames=5, fps=Fraction(25), flow="dis", levels=(1, 2))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Client]:
    with connect(None, 2) as client:
        yield client


@pytest.fixture
def client(cluster: Client) -> Client:
    cluster.wait_for_workers(2)  # one that died is back
    return cluster


@pytest.fixture(scope="module")
def clips(write_video: Callable[..., str], moving_pictures: Callable[..., list]) -> list[Clip]:
    """Seven; the third and the last do not decode any more."""
    source = Source(path=write_video("pieces.mp4", moving_pictures(35)), columns={"label": 7})
    scan = scan_video(source, CONFIG.clip_rule, detector="none")
    assert not isinstance(scan, Reject)
    clips = list(scan[1])
    for lost in (2, 6):
        clips[lost] = replace(clips[lost], numbers=(95,), pts=(10**6,))
    return clips


def task_of(clips: list[Clip], folder: Path) -> ShardTask:
    rows = pa.Table.from_pylist([clip.to_row(3) for clip in clips])
    specs = (*flow_specs(CONFIG), *flow_specs(CONFIG, "clip"))
    return ShardTask(store=Store(folder), shard=3, rows=rows, specs=specs, crf=18)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def unfinished(folder: Path) -> list[Path]:
    return list(folder.rglob(f"{TEMPORARY_PREFIX}*"))


@pytest.fixture(scope="module")
def whole(clips: list[Clip], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The shard's files, built at once."""
    folder = tmp_path_factory.mktemp("whole")
    task_of(clips, folder).run()
    return contents(folder)


@pytest.mark.parametrize("cuts", [(0, 3, 7), (0, 1, 2, 3, 6, 7)])
def test_pieces_bind_into_the_very_same_bytes(
    clips: list[Clip], whole: dict[str, bytes], tmp_path: Path, cuts: tuple[int, ...]
):
    """In any order of building; the second cut has two pieces without any clip."""
    task = task_of(clips, tmp_path)
    pieces = [task.piece(a, b, "job") for a, b in pairwise(cuts)]
    costs = sum((run_task(piece) for piece in reversed(pieces)), Costs())
    assert costs.computed.total() == 2 * 5 * (4 + 2)
    assert not task.committed
    assert [name.partition("/")[0] for name in Store(tmp_path).files()] == ["makers"]
    Split(task=task, pieces=tuple(pieces)).run()
    assert contents(tmp_path) == whole


def test_a_piece_and_a_binding_that_are_run_again_change_nothing(
    clips: list[Clip], whole: dict[str, bytes], tmp_path: Path
):
    """As Dask does where a worker dies before it has told its result."""
    task = task_of(clips, tmp_path)
    split = Split(task=task, pieces=(task.piece(0, 4, "job"), task.piece(4, 7, "job")))
    for piece in split.pieces:
        run_task(piece)
    assert run_task(split.pieces[0]) == Costs(), "it is there already"
    Path(task.store.at(f"{split.pieces[1].stems[0]}.tar")).unlink()
    assert run_task(split.pieces[1]).computed.total(), "half of it was lost"
    split.run()
    split.run()
    assert contents(tmp_path) == whole


def test_a_binding_never_replaces_what_the_manifest_records(clips: list[Clip], tmp_path: Path):
    task = task_of(clips, tmp_path)
    task = replace(task, recorded=dict.fromkeys(task.stems, "0" * 64))
    split = Split(task=task, pieces=(task.piece(0, 4, "job"), task.piece(4, 7, "job")))
    for piece in split.pieces:
        run_task(piece)
    with pytest.raises(DamagedDataset, match="cannot be made again"):
        split.run()
    assert Store(tmp_path).files() == []


@pytest.mark.parametrize(
    ("shards", "threads", "whole", "sizes"),
    [
        ([41], 1, 1, []),
        ([41], 2, 0, [[11, 8, 6, 4, 3, 3, 2, 1, 1, 1, 1]]),
        ([64] * 5, 2, 3, [[32, 24, 8], [16, 12, 9, 7, 5, 4, 3, 2, 2, 1, 1, 1, 1]]),
        ([3, 1, 2], 8, 0, [[1, 1, 1], [1], [1, 1]]),
        ([], 4, 0, []),
    ],
)
def test_the_last_shards_are_split_until_the_pieces_are_small(
    tmp_path: Path, shards: list[int], threads: int, whole: int, sizes: list[list[int]]
):
    tasks = [
        Toy(store=Store(tmp_path), shard=n, rows=pa.table({"n": range(rows)}), specs=())
        for n, rows in enumerate(shards)
    ]
    splits = list(split_last(tasks, lambda: threads, "job"))
    assert [split.task for split in splits] == tasks
    assert all(split.is_whole for split in splits[:whole])
    found = [[len(piece.rows) for piece in split.pieces] for split in splits[whole:]]
    assert found == sizes
    for split in splits:
        rows = [n for piece in split.pieces for n in piece.rows["n"].to_pylist()]
        assert rows == list(range(len(split.task.rows)))
        assert len({piece.stems for piece in split.pieces}) == len(split.pieces)


@dataclass(frozen=True, kw_only=True, slots=True)
class Toy(Task):
    """A shard of empty tars, one to each piece; `run` is told apart by what it does."""

    behaviour: str = ""

    @property
    def stems(self) -> tuple[str, ...]:
        return (self.stem("clips"),)

    def run(self) -> Costs:
        meet = {"": lambda _: None, "waits": wait_for_two, "dies": die_once, "fails": fail}
        meet[self.behaviour](self)
        with shard_tar(self.store, f"{self.stems[0]}.tar"):
            pass
        empty = pa.array([], "i8")
        places = {f"{member}_{what}": empty for member in ("json", "mp4", "txt") for what in PLACE}
        write_table(self.store, f"{self.stems[0]}.parquet", pa.table(places))
        return Costs()


PLACE = ("offset", "size")


def wait_for_two(task: Task) -> None:
    """Return once two processes are at work on the shard."""
    met = Path(task.store.at("met"))
    met.mkdir(parents=True, exist_ok=True)
    (met / str(os.getpid())).touch()
    deadline = time.monotonic() + 60
    while len(list(met.iterdir())) < 2:
        assert time.monotonic() < deadline, "no second worker came"
        time.sleep(0.02)


def die_once(task: Task) -> None:
    mark = Path(task.store.at("died"))
    if not mark.exists():
        mark.touch()
        os._exit(1)


def fail(task: Task) -> None:
    if "-000002-" in task.part:
        raise RuntimeError("disk on fire")


def one_shard(folder: Path, behaviour: str) -> Toy:
    folder.mkdir(exist_ok=True)
    rows = pa.table({"n": range(6)})
    return Toy(store=Store(folder), shard=0, rows=rows, specs=(), behaviour=behaviour)


def test_one_shard_uses_every_worker(client: Client, tmp_path: Path):
    task = one_shard(tmp_path, "waits")
    seen: list[tuple[int, int]] = []
    failed = run_shards(client, [task], 6, lambda *step: seen.append(step)).failed
    assert failed == {}
    assert task.committed
    assert (seen[0], seen[-1]) == ((0, 6), (6, 6))
    assert unfinished(tmp_path) == []


def test_a_piece_whose_worker_dies_is_built_again(client: Client, tmp_path: Path):
    task = one_shard(tmp_path, "dies")
    failed = run_shards(client, [task], 6, lambda *_: None).failed
    assert failed == {}
    assert task.committed
    assert Path(task.store.at("died")).exists()
    assert unfinished(tmp_path) == []


def test_a_shard_whose_piece_fails_is_named_and_leaves_nothing(client: Client, tmp_path: Path):
    task = one_shard(tmp_path, "fails")
    failed = run_shards(client, [task], 6, lambda *_: None).failed
    assert failed == {"000000": "RuntimeError: disk on fire"}
    assert contents(tmp_path) == {}
