"""Dask: where tasks run, and how many are under way at once."""

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from multiprocessing import resource_tracker
from typing import Any, TypeVar
from uuid import uuid4

import dask
from dask.utils import funcname
from distributed import Client, LocalCluster, as_completed, get_worker

from pipeline.progress import PATIENCE_S, tell_progress, watched
from shards import UsageError

Item = TypeVar("Item")
Result = TypeVar("Result")

_CLIPS = "fluxshard-clips"  # topic of events
_ANSWER = "30s"  # how long a scheduler may take to answer
_LOCAL = {
    # Decoders' memory is none that Dask can spill, and what is freed stays with the process: a
    # worker that were paused for it would wait for ever. Where it runs out the nanny ends it.
    **{f"distributed.worker.memory.{at}": False for at in ("target", "spill", "pause")},
    # A worker that is not back so long after it died is given up. On a busy machine it just
    # starts slowly, or has died again, and if it was the only one, the job would wait for ever.
    "distributed.deploy.lost-worker-timeout": "1000 days",
}
_TASKS_PER_THREAD = 3  # enough to keep workers busy, few enough for a million inputs


@contextmanager
def connect(scheduler: str | None, workers: int) -> Iterator[Client]:
    """A client of the cluster at `scheduler`, or of one on this machine with `workers` processes.

    Local workers have one thread each: decoders, OpenCV and torch are told to use one, too. They
    are gone when the context ends, also after an interrupt, which is for this process alone.

    Raises:
        UsageError: no scheduler answers at the address.
    """
    with ExitStack() as stack:
        if scheduler is not None:
            try:
                client = stack.enter_context(Client(scheduler, timeout=_ANSWER))
            except (OSError, ValueError) as error:
                raise UsageError(
                    f"no Dask scheduler answers at {scheduler} ({error}): start one with "
                    "`dask scheduler` and give the address that it prints"
                ) from error
        else:
            stack.enter_context(dask.config.set(_LOCAL))
            with interrupts_held():
                cluster = LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    host="127.0.0.1",
                    dashboard_address="127.0.0.1:0",  # any free port, for this machine alone
                    silence_logs=logging.CRITICAL,
                )
                client = stack.enter_context(Client(stack.enter_context(cluster)))
        yield client


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Ctrl-C waits until the body has ended, and never reaches processes that start in it.

    A terminal sends it to the whole process group. Threads and processes inherit what is blocked,
    so the workers, also those that are started again later, leave the answer to this process.
    """
    resource_tracker.ensure_running()  # when it starts, it lifts the block of its starter
    held: list[int] = []
    answer = signal.getsignal(signal.SIGINT)
    catches = callable(answer) and threading.current_thread() is threading.main_thread()
    if catches:  # threads that are there already do not block it
        signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if catches:
            signal.signal(signal.SIGINT, answer)
        for number in held[:1]:
            signal.raise_signal(number)


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
        client.unsubscribe_topic(_CLIPS)


def run_tasks(
    client: Client,
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    patience_s: float = PATIENCE_S,
) -> Iterator[tuple[int, Result | Exception]]:
    """Call `function` on each item; yields (index, result or exception) as they end.

    A task whose worker dies is run again elsewhere; one that kills several workers comes back as
    `distributed.KilledWorker`. Cancels what is left if the caller stops early.

    Args:
        patience_s: how long a task may go without `tell_progress` until its worker is ended.
    """
    waiting = iter(enumerate(items))
    index_of: dict[Any, int] = {}
    running = as_completed()

    def submit() -> None:
        for index, item in waiting:
            key = f"{funcname(function)}-{uuid4().hex}"
            future = client.submit(_call, function, item, patience_s, key=key)
            index_of[future] = index
            running.add(future)
            return

    for _ in range(max(1, _TASKS_PER_THREAD * sum(client.nthreads().values()))):
        submit()
    try:
        for future in running:
            index = index_of.pop(future)
            error = future.exception()
            yield index, future.result() if error is None else error
            submit()
    finally:
        if index_of:  # Dask tells all clients, and one that is just connecting trips over it
            client.cancel(list(index_of))


def _call(function: Callable[[Item], Result], item: Item, patience_s: float) -> Result:
    """On a worker: it is watched where a nanny starts another in the place of one that ends."""
    with watched(patience_s) if get_worker().nanny else nullcontext():
        return function(item)
