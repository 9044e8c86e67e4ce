"""Whether a task gets on, and is wanted: a process that stands still is ended, its task run again.

No Python code can end a call that never returns, least of all one that holds the interpreter's
lock. `faulthandler` can: its timer is a thread in C. Ended, a worker process is started anew by its
nanny, and Dask runs the task again; one that ends several processes comes back as an error.

Nor can anything end a sound task from outside: it ends itself at its next step, when nobody waits
for it any more.
"""

import faulthandler
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# Longer than any single step of sound work on an overloaded machine. The longest are the flow of
# a few frame pairs by a slow estimator on a CPU, and one read from storage that is about to come
# back. A job whose estimators look at whole clips has more patience (`build_shards`).
PATIENCE_S = float(os.environ.get("FLUXSHARD_PATIENCE_S", "600"))
_GRAIN_S = 1.0  # setting the timer takes as long as decoding a small frame: not each time
_STDERR = 2  # the descriptor itself, whatever stands in for `sys.stderr`


class Unwanted(BaseException):
    """Nobody waits for the task any more; no handler of errors takes it for one of them."""


@dataclass(slots=True)
class _Task:
    """Of one thread: how long it may stand still, when it last told of progress, who waits."""

    patience_s: float
    told: float
    is_wanted: Callable[[], bool]


_tasks: dict[int, _Task] = {}  # by thread
_lock = threading.Lock()


def tell_progress() -> None:
    """Called in a task after each step: a packet, a frame, a clip. Costs next to nothing.

    From a thread that runs no task itself it speaks for all tasks of the process. Where nobody
    watches, nothing happens.

    Raises:
        Unwanted: the task of this thread is not wanted any more.
    """
    if not _tasks:
        return
    now, own = time.monotonic(), _tasks.get(threading.get_ident())
    for task in list(_tasks.values()) if own is None else [own]:
        if now - task.told > min(_GRAIN_S, task.patience_s / 10):
            task.told = now
            _set_timer()
            if task is own and not task.is_wanted():
                raise Unwanted


@contextmanager
def watched(
    patience_s: float = PATIENCE_S, is_wanted: Callable[[], bool] = lambda: True
) -> Iterator[None]:
    """Around a task: end the process once the task has told of no progress for `patience_s`.

    And the task itself, at its next step, once it is not wanted: `Unwanted` is raised there.

    The stacks of all threads then go to stderr. With several tasks in a process, each on a thread
    of its own, every one has to get on.
    """
    thread = threading.get_ident()
    _tasks[thread] = _Task(patience_s, time.monotonic(), is_wanted)
    _set_timer()
    try:
        yield
    finally:
        del _tasks[thread]
        _set_timer()


def _set_timer() -> None:
    """To when the first of the tasks will have stood still for too long."""
    with _lock:
        if tasks := [task for task in _tasks.values() if task.patience_s < math.inf]:
            left = min(task.told + task.patience_s for task in tasks) - time.monotonic()
            faulthandler.dump_traceback_later(max(left, 0.001), exit=True, file=_STDERR)
        else:
            faulthandler.cancel_dump_traceback_later()
