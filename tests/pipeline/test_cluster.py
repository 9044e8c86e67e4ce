"""Tasks run, failures come back, and an interrupt is for the job alone."""

import ctypes
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client, KilledWorker, get_worker

from pipeline.cluster import (
    JobClient,
    announce_clip,
    announces_gpu,
    connect,
    heard_clips,
    run_tasks,
)
from pipeline.progress import tell_progress
from pipeline.workers import ClusterLost
from shards import UsageError


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with connect(None, 1) as client:
        yield client


def test_the_dashboard_of_the_local_cluster_answers_on_this_machine_alone(client: Client):
    services = client.cluster.scheduler.http_server._sockets.values()
    assert {listener.getsockname()[0] for listener in services} == {"127.0.0.1"}


def invert(number: int) -> float:
    return 1 / number


def test_results_and_errors_come_back_with_their_index(client: Client):
    results = dict(run_tasks(client, invert, [4, 0, 2, *[1] * 20]))
    assert isinstance(results.pop(1), ZeroDivisionError)
    assert results.pop(0) == 0.25
    assert results.pop(2) == 0.5
    assert set(results.values()) == {1.0}
    assert len(results) == 20


def announce(_: int) -> None:
    announce_clip()


def test_clips_are_heard_of(client: Client):
    heard: list[bool] = []
    with heard_clips(client, lambda: heard.append(True)):
        assert len(list(run_tasks(client, announce, range(3)))) == 3
        while len(heard) < 3:  # the events follow the results; else the time limit
            pass
    announce_clip()  # not on a worker: nobody hears it
    assert len(heard) == 3


def test_a_scheduler_elsewhere_is_joined(client: Client):
    with connect(client.scheduler.address, 0) as other:
        assert other.submit(invert, 8).result() == 0.125


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nowhere", "what://x:1"])
def test_one_that_does_not_answer_is_named(address: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pipeline.cluster._ANSWER", "1s")
    with pytest.raises(UsageError, match=f"no Dask scheduler answers at {address}"):  # noqa: SIM117
        with connect(address, 1):
            pass


def test_a_client_that_reaches_nobody_is_closed():
    class Kept(JobClient):
        def __init__(self, *arguments: object, **settings: Any) -> None:
            kept.append(self)
            super().__init__(*arguments, **settings)

    kept: list[Kept] = []
    with pytest.raises(ValueError, match="unknown address scheme"):
        Kept("what://x:1", tell=print)
    assert kept[0].status == "closed"


def stand_still_once(mark: Path) -> str:
    """For ever, and with the interpreter's lock, unless it was tried before."""
    if not mark.exists():
        mark.touch()
        ctypes.PyDLL(None).sleep(1000)
    return "done"


def test_a_task_that_stands_still_is_run_again(client: Client, tmp_path: Path):
    marks = [tmp_path / "a", tmp_path / "b"]
    assert dict(run_tasks(client, stand_still_once, marks, patience_s=1)) == {0: "done", 1: "done"}


def stand_still(_: int) -> None:
    ctypes.CDLL(None).sleep(1000)


def test_one_that_always_does_comes_back_as_an_event(
    client: Client, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(client.cluster.scheduler, "allowed_failures", 0)
    ((_, error),) = run_tasks(client, stand_still, [0], patience_s=1)
    assert isinstance(error, KilledWorker)


def test_memory_that_decoders_hold_pauses_no_worker(client: Client):
    assert client.submit(pause_at, pure=False).result(timeout=60) is False


def pause_at() -> float | bool:
    return get_worker().memory_manager.memory_pause_fraction


def test_a_worker_that_is_slow_to_come_back_is_not_given_up():
    """It is the only one."""
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "10ms"}):  # noqa: SIM117
        with connect(None, 1) as client:
            client.cluster.scheduler.allowed_failures = 0
            client.submit(os._exit, 1, pure=False, retries=0).exception(timeout=60)
            assert client.submit(invert, 8, pure=False).result(timeout=60) == 0.125


def work_on(marks: Path) -> None:
    """For ever, in steps, until nobody wants it."""
    (marks / "began").touch()
    try:
        while True:
            tell_progress()
            time.sleep(0.01)
    finally:
        (marks / "ended").touch()


def test_tasks_of_a_job_that_is_interrupted_end_before_it_does(client: Client, tmp_path: Path):
    def wait(other: Client) -> None:
        with suppress(ClusterLost):  # its task is taken from it
            list(run_tasks(other, work_on, [tmp_path]))

    def job() -> None:
        with connect(client.scheduler.address, 0) as other:
            threading.Thread(target=wait, args=(other,)).start()
            while not (tmp_path / "began").exists():
                time.sleep(0.01)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job()
    assert (tmp_path / "ended").exists()


def test_items_are_taken_as_they_are_needed(client: Client):
    taken, ahead = 0, 0

    def items() -> Iterator[int]:
        nonlocal taken
        while taken < 200:
            taken += 1
            yield 1

    for done, _ in enumerate(run_tasks(client, invert, items()), start=1):
        ahead = max(ahead, taken - done)
        assert len(client.futures) <= 4  # the one that has just ended is let go of soon
    assert (taken, ahead) == (200, 2)


def test_a_gpu_is_announced_on_workers_alone(client: Client):
    assert announces_gpu() is False
    ((_, there),) = run_tasks(client, gpu_there, [0])
    assert there is False


def gpu_there(_: int) -> bool:
    return announces_gpu()


def interrupt_yourself(_: int) -> int:
    os.kill(os.getpid(), signal.SIGINT)
    return os.getpid()


def test_workers_leave_ctrl_c_to_the_job(client: Client):
    """Also those that take the place of one that died."""
    ((_, first),) = run_tasks(client, interrupt_yourself, [0])
    client.submit(os._exit, 1, pure=False, retries=0).exception()
    ((_, second),) = run_tasks(client, interrupt_yourself, [0])
    assert isinstance(first, int)
    assert isinstance(second, int)
    assert first != second
