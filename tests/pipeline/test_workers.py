"""Workers are looked at before they get work, and again when one joins."""

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import workers
from pipeline.cluster import connect, run_tasks
from pipeline.workers import ClusterLost, check_reach, environment
from shards import Store, UsageError
from tests.clusters import Processes, processes

BARE = "import sys; sys.modules['pipeline'] = None"
OTHER = "import cv2; cv2.__version__ = '4.0.0'"
ELSEWHERE = """
import shards.store as s
real = s.open_filesystem
s.open_filesystem = lambda url: real(url.replace('dataset', 'elsewhere'))
"""


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.cluster.LOOK_S", 0.1)
    monkeypatch.setattr(workers, "LOOK_S", 0.1)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Processes]:
    with processes(tmp_path) as cluster:
        yield cluster


def wait_a_little(_: int) -> int:
    time.sleep(0.05)
    return os.getpid()


def test_what_decides_bytes_is_told():
    told = environment()
    assert {"fluxshard's code", "PyAV", "FFmpeg", "torch", "OpenCV"} <= told.keys()
    assert "not installed" not in told.values()


@pytest.mark.parametrize(
    ("prelude", "says"),
    [(BARE, "fluxshard cannot be loaded .*No module named"), (OTHER, "OpenCV is 4.0.0, here")],
    ids=["no package", "another version"],
)
def test_a_worker_that_lacks_what_is_here_is_named(cluster: Processes, prelude: str, says: str):
    cluster.worker("--name=odd", prelude=prelude)
    with pytest.raises(UsageError, match=f"tcp://127.0.0.1:\\d+: {says}"):  # noqa: SIM117
        with connect(cluster.address, 0):
            pass


def test_so_is_one_that_joins_later(cluster: Processes):
    cluster.worker()
    with connect(cluster.address, 0) as client:
        results = run_tasks(client, wait_a_little, range(10_000))
        next(results)
        cluster.worker(prelude=OTHER)
        with pytest.raises(UsageError, match=r"OpenCV is 4\.0\.0, here"):
            list(results)


def test_a_scheduler_needs_the_package_too(tmp_path: Path):
    with processes(tmp_path, BARE) as cluster:  # noqa: SIM117
        with pytest.raises(UsageError, match="the scheduler: fluxshard cannot be loaded"):
            with connect(cluster.address, 0):
                pass


def test_no_worker_is_waited_for_as_long_as_is_said(
    cluster: Processes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(workers, "JOIN_S", 0.3)
    told: list[str] = []
    with pytest.raises(ClusterLost, match=r"none has joined in 0\.3 s: start workers"):  # noqa: SIM117
        with connect(cluster.address, 0, told.append):
            pass
    assert told == [
        f"no worker is connected to the scheduler at {cluster.address}: waiting up to 0.3 s for "
        "one to join"
    ]


def test_workers_come_and_go(cluster: Processes):
    """The job starts without any; one joins later and the first leaves: all tasks are done."""
    first: list = []
    starts = threading.Timer(0.5, lambda: first.append(cluster.worker()))
    starts.start()
    told: list[str] = []
    with connect(cluster.address, 0, told.append) as client:
        starts.join()
        results, crew, alone = {}, {first[0].pid}, 0
        for index, pid in run_tasks(client, wait_a_little, range(400)):
            results[index] = pid
            if index == 3:
                second = cluster.worker()
            crew.add(pid)
            if len(crew) == 2 and not alone:
                alone = index
                first[0].kill()
    assert [line.partition(":")[0] for line in told][-1] == "dashboard"
    assert "waiting up to" in told[0]
    assert results.keys() == {*range(400)}
    assert {*results.values()} == {first[0].pid, second.pid}
    assert results[399] == second.pid


def test_a_worker_that_sees_another_folder_is_named(cluster: Processes, tmp_path: Path):
    cluster.worker()
    store = Store(tmp_path / "dataset")
    with connect(cluster.address, 0) as client:
        check_reach(client, store)
        assert store._found("") == []
        cluster.worker(prelude=ELSEWHERE)
        client.wait_for_workers(2)
        with pytest.raises(UsageError, match=r"dataset is not the same there: .*No such file"):
            check_reach(client, store)
    assert store._found("") == []


def test_a_task_that_needs_a_gpu_runs_where_one_is_announced(cluster: Processes):
    plain = cluster.worker()
    with connect(cluster.address, 0) as client:
        anywhere = dict(run_tasks(client, wait_a_little, range(4), on_gpu=True))
        assert {*anywhere.values()} == {plain.pid}
        gpu = cluster.worker("--resources=GPU=1")
        client.wait_for_workers(2)
        there = dict(run_tasks(client, wait_a_little, range(12), on_gpu=True))
        assert {*there.values()} == {gpu.pid}
