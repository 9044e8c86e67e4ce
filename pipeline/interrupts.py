"""Ctrl-C is for the job alone, and what it cuts off ends without tracebacks of Dask's."""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker


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


@contextmanager
def tracebacks_spared() -> Iterator[None]:
    """Dask logs none for connections that are lost, nor for calls that Ctrl-C cuts off."""
    # For good: the thread that logs may get there when the body has ended.
    logging.getLogger("tornado.application").addFilter(_is_a_fault)
    loggers = [logging.getLogger(f"distributed.{name}") for name in ("client", "batched")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _is_a_fault(record: logging.LogRecord) -> bool:
    """False for what Dask logs where Ctrl-C comes before its event loop has begun a call.

    `distributed.utils.sync` cancels the `future` of the call, which is not there yet.
    """
    error = record.exc_info[1] if record.exc_info else None
    return not (isinstance(error, NameError) and error.name == "future")
