"""Dask: where tasks run, and how many are under way at once."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import TypeVar
from uuid import uuid4

import dask
from dask.utils import funcname
from distributed import Client, Future, LocalCluster, Worker, get_worker

from pipeline.interrupts import interrupts_held, tracebacks_spared
from pipeline.progress import PATIENCE_S, tell_progress, watched
from pipeline.workers import LOOK_S, ClusterLost, Crew, check_scheduler
from shards import UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")
Tell = Callable[[str], None]

_CLIPS = "fluxshard-clips"  # topic of events
_ANSWER = "8s"  # how long a scheduler may take to answer
_STOP_S = 10.0  # how long tasks may take to notice that nobody wants them
_GPU = "GPU"  # the resource that workers with one announce
_LOCAL = {
    # Decoders' memory is none that Dask can spill, and what is freed stays with the process: a
    # worker that were paused for it would wait for ever. Where it runs out the nanny ends it.
    **{f"distributed.worker.memory.{at}": False for at in ("target", "spill", "pause")},
    # It looks at every thread a hundred times a second, for a page of the dashboard.
    "distributed.worker.profile.enabled": False,
    # Fifty times a second every process would see how late its event loop is: idle workers cost a
    # tenth of a core.
    "distributed.admin.tick.interval": "1s",
    # A worker that is not back so long after it died is given up. On a busy machine it just
    # starts slowly, or has died again, and if it was the only one, the job would wait for ever.
    "distributed.deploy.lost-worker-timeout": "1000 days",
}
_TASKS_PER_THREAD = 3  # enough to keep workers busy, few enough for a million inputs


def _silently(_: str) -> None:
    """Tell nobody."""


class JobClient(Client):
    """A client that can tell a person something, by `tell`."""

    def __init__(self, *arguments: object, tell: Tell, **settings: object) -> None:
        try:
            super().__init__(*arguments, **settings)
        except BaseException:
            if getattr(self, "status", None) == "connecting":
                self.close()  # as when it is collected, which hangs on its event loop's thread
            raise
        self.tell = tell


@contextmanager
def connect(scheduler: str | None, workers: int, tell: Tell = _silently) -> Iterator[JobClient]:
    """A client of the cluster at `scheduler`, or of one on this machine with `workers` processes.

    Local workers have one thread each: decoders, OpenCV and torch are told to use one, too. They
    are gone when the context ends, also after an interrupt, which is for this process alone.

    Args:
        tell: is told where the dashboard is, and when no worker is there.

    Raises:
        UsageError: no scheduler answers at the address, or what is installed there differs.
        ClusterLost: no worker joins it, or it went away.
    """
    with ExitStack() as stack:
        stack.enter_context(tracebacks_spared())
        if scheduler is not None:
            client = stack.enter_context(_joined(scheduler, tell))
        else:
            client = stack.enter_context(_local(workers, tell))
        tell(f"dashboard: {client.dashboard_link}")
        yield client


@contextmanager
def _local(workers: int, tell: Tell) -> Iterator[JobClient]:
    with dask.config.set(_LOCAL), ExitStack() as stack:
        with interrupts_held():
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",  # any free port, for this machine alone
                silence_logs=logging.CRITICAL,
            )
            client = stack.enter_context(JobClient(stack.enter_context(cluster), tell=tell))
        yield client


@contextmanager
def _joined(scheduler: str, tell: Tell) -> Iterator[JobClient]:
    """A cluster that others run, once a worker is there, for as long as it is."""
    try:
        joined = JobClient(scheduler, timeout=_ANSWER, tell=tell)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"no Dask scheduler answers at {scheduler} ({error}): start one with "
            "`dask scheduler` and give the address that it prints"
        ) from error
    with joined as client:
        try:
            check_scheduler(client)
            crew = Crew(client, tell)
            while not crew.threads:
                time.sleep(LOOK_S)
                crew.look()
            yield client
        except BaseException as error:
            if isinstance(error, OSError | CancelledError) and _is_lost(client):
                raise ClusterLost(_gone(client)) from error
            with suppress(OSError, TimeoutError, CancelledError):
                _stop(client)
            raise


def _is_lost(client: Client) -> bool:
    try:
        return client.status != "running" or client.nthreads() is None
    except (OSError, CancelledError):
        return True


def _gone(client: Client) -> str:
    address = client.scheduler.address if client.scheduler else "its address"
    return (
        f"the Dask scheduler at {address} went away: what is built stays; start it again, then run "
        "the same command again to go on"
    )


def _stop(client: Client) -> None:
    """Cancel what the client asked for, and wait a while for tasks that are at work to notice."""
    if client.status != "running":
        return
    keys = {*client.futures}
    client.cancel([Future(key, client) for key in keys])
    end = time.monotonic() + _STOP_S
    while (left := end - time.monotonic()) > 0:
        # `client.run` would wait for ever for a worker that hangs.
        told = client.sync(client._run, _at_work, keys, on_error="ignore", callback_timeout=left)
        if not any(told.values()):
            return
        time.sleep(0.05)


def _at_work(keys: set[str], dask_worker: Worker) -> bool:
    """On a worker: whether a thread is busy with one of these tasks."""
    return not keys.isdisjoint(dask_worker.active_keys)


def announce_clip() -> None:
    """Called in a task when a clip is done: whoever is in `heard_clips` hears of it."""
    tell_progress()
    with suppress(ValueError):  # not on a worker
        get_worker().log_event(_CLIPS, "done")


@contextmanager
def heard_clips(client: Client, hear: Callable[[], None]) -> Iterator[None]:
    """Call `hear` (on another thread) whenever a task somewhere on the cluster announces a clip."""
    client.subscribe_topic(_CLIPS, lambda _: hear())
    try:
        yield
    finally:
        if client.status == "running":
            client.unsubscribe_topic(_CLIPS)


def run_tasks(
    client: Client,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    patience_s: float = PATIENCE_S,
    on_gpu: bool = False,
) -> Iterator[tuple[int, Result | Exception]]:
    """Call `function` on each item; yields (index, result or exception) as they end.

    Items are taken as they are submitted, a few for each thread of the cluster ahead; workers
    that join later get theirs.

    A task whose worker dies is run again elsewhere; one that kills several workers comes back as
    `distributed.KilledWorker`. Cancels what is left if the caller stops early.

    Args:
        patience_s: how long a task may go without `tell_progress` until its worker is ended.
        on_gpu: one task at a time for each `GPU` that workers announce as a Dask resource, on
            these workers alone; anywhere if none does.

    Raises:
        UsageError, ClusterLost: see `Crew`; or the scheduler went away.
    """
    waiting = iter(enumerate(items))
    index_of: dict[Future, int] = {}
    ended: SimpleQueue[Future] = SimpleQueue()
    crew = Crew(client, client.tell if isinstance(client, JobClient) else _silently)
    needs = {_GPU: 1} if on_gpu and _has_gpu(client) else None

    def submit() -> None:
        for index, item in waiting:
            key = f"{funcname(function)}-{uuid4().hex}"
            future = client.submit(_call, function, item, patience_s, key=key, resources=needs)
            index_of[future] = index
            future.add_done_callback(ended.put)
            if len(index_of) >= max(1, _TASKS_PER_THREAD * crew.threads):
                return

    try:
        submit()
        while index_of:
            crew.look()
            try:
                future = ended.get(timeout=LOOK_S)
            except Empty:
                future = None
            if future is not None:
                if future.cancelled():
                    raise ClusterLost(_gone(client))
                index, error = index_of.pop(future), future.exception()
                yield index, future.result() if error is None else error
            if len(index_of) < max(1, _TASKS_PER_THREAD * crew.threads):
                submit()
    finally:
        if index_of and client.status == "running":
            # Dask tells all clients, and one that is just connecting trips over it
            client.cancel(list(index_of))


def _has_gpu(client: Client) -> bool:
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return any(worker["resources"].get(_GPU) for worker in workers)


def announces_gpu() -> bool:
    """Called in a task: whether its worker announces a GPU."""
    try:
        return bool(get_worker().state.total_resources.get(_GPU))
    except ValueError:  # not on a worker
        return False


def _call(function: Callable[[Item], Result], item: Item, patience_s: float) -> Result:
    """On a worker: it is watched where a nanny starts another in the place of one that ends."""
    worker = get_worker()
    key, tasks = worker.get_current_task(), worker.state.tasks

    def is_wanted() -> bool:
        return key in tasks and tasks[key].state != "cancelled"

    with watched(patience_s if worker.nanny else math.inf, is_wanted):
        return function(item)
