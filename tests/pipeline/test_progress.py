"""What stands still is ended; what gets on is left alone."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import progress
from pipeline.progress import Unwanted, tell_progress, watched


class Timer:
    """In the place of `time` and `faulthandler`.

    Attributes:
        now: seconds.
        ends: when the process would be ended.
        sets: how often the timer was set.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.ends: float | None = None
        self.sets = 0

    def monotonic(self) -> float:
        return self.now

    def dump_traceback_later(self, seconds: float, *, exit: bool, file: int) -> None:
        assert exit
        assert file == 2
        self.ends = self.now + seconds
        self.sets += 1

    def cancel_dump_traceback_later(self) -> None:
        self.ends = None


@pytest.fixture
def timer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Timer]:
    timer = Timer()
    monkeypatch.setattr(progress, "time", timer)
    monkeypatch.setattr(progress, "faulthandler", timer)
    yield timer
    assert timer.ends is None


def test_the_time_counts_from_the_last_progress(timer: Timer):
    with watched(100):
        assert timer.ends == 100
        for timer.now in (50, 149, 200):
            tell_progress()
            assert timer.ends == timer.now + 100
        sets = timer.sets
        for _ in range(1000):  # within a second: the timer stays as it is
            tell_progress()
        assert timer.sets == sets


def test_nobody_watches_outside_of_a_task(timer: Timer):
    tell_progress()
    assert timer.sets == 0


def test_a_task_that_fails_is_watched_no_more(timer: Timer):
    with pytest.raises(ZeroDivisionError), watched(100):
        raise ZeroDivisionError


def on_a_thread(action: object) -> None:
    thread = threading.Thread(target=action)  # type: ignore[arg-type]
    thread.start()
    thread.join()


def test_every_task_of_a_process_has_to_get_on(timer: Timer):
    def other_task() -> None:
        with watched(100):
            timer.now = 60
            tell_progress()
            assert timer.ends == 100  # the first one's
            on_a_thread(tell_progress)  # helps all
            assert timer.ends == 160
            timer.now = 90
        assert timer.ends == 160

    with watched(100):
        on_a_thread(other_task)
        timer.now = 120
        tell_progress()
        assert timer.ends == 220


STUCK = """
import ctypes
from pipeline.progress import watched

def stuck():
    ctypes.PyDLL(None).sleep(1000)

with watched(0.2):
    stuck()
"""


def test_a_call_that_never_returns_ends_the_process_and_shows_where():
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", STUCK], cwd=root, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("Timeout (0:00:0")
    assert "in stuck" in done.stderr


def test_patience_comes_from_the_environment():
    code = "from pipeline.progress import PATIENCE_S; print(PATIENCE_S)"
    root, environment = Path(__file__).parents[2], {"FLUXSHARD_PATIENCE_S": "7"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, check=True)
    assert done.stdout.strip() == b"7.0"


def test_a_task_that_nobody_wants_ends_at_its_next_step(timer: Timer):
    wanted = True
    with watched(100, lambda: wanted):
        timer.now = 5
        tell_progress()
        wanted = False
        timer.now = 10
        with pytest.raises(Unwanted):
            tell_progress()


def test_where_no_nanny_watches_nothing_is_ended(timer: Timer):
    with watched(float("inf"), lambda: True):
        assert timer.ends is None
        timer.now = 5
        tell_progress()
        assert timer.ends is None
