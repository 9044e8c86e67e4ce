"""Dask's scheduler and workers: as people start them, or all in this process."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dask
import pytest
from distributed import Client
from jaxtyping import config

from pipeline.cluster import _LOCAL

REPOSITORY = Path(__file__).resolve().parents[1]


@contextmanager
def in_this_process() -> Iterator[Client]:
    """A client whose one worker is a thread here: nothing starts, and nothing is imported again.

    As in processes of workers, nothing is checked of arrays meanwhile, and nothing profiled.
    """
    settings = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with pytest.MonkeyPatch.context() as patch, dask.config.set(_LOCAL):
        patch.setattr(config, "jaxtyping_disable", True)
        with Client(processes=False, **settings) as client:
            yield client


class Processes:
    """A scheduler on loopback, and workers, each with one thread.

    Attributes:
        address: of the scheduler.
    """

    def __init__(self, folder: Path, prelude: str = "") -> None:
        self._folder, self._all = folder, list[subprocess.Popen[bytes]]()
        told = folder / "scheduler.json"
        options = ["--host=127.0.0.1", "--port=0", "--dashboard-address=127.0.0.1:0"]
        self.scheduler = self._start("scheduler", [*options, f"--scheduler-file={told}"], prelude)
        while not told.exists() or not told.read_text().endswith("}"):
            assert self.scheduler.poll() is None
            time.sleep(0.05)
        self.address: str = json.loads(told.read_text())["address"]

    def worker(self, *options: str, prelude: str = "") -> subprocess.Popen[bytes]:
        """One more, in a folder of its own; the prelude is Python that runs there first."""
        return self._start(
            "worker", [self.address, "--no-nanny", "--nthreads=1", *options], prelude
        )

    def _start(self, what: str, options: Sequence[str], prelude: str) -> subprocess.Popen[bytes]:
        code = f"{prelude}\nfrom distributed.cli.dask_{what} import main\nmain()"
        folder = self._folder / f"{what}-{len(self._all)}"
        folder.mkdir()
        process = subprocess.Popen(
            [sys.executable, "-c", code, *options],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stderr=subprocess.DEVNULL,
        )
        self._all.append(process)
        return process

    def end(self) -> None:
        for process in self._all:
            process.kill()
            process.wait()


@contextmanager
def processes(folder: Path, prelude: str = "") -> Iterator[Processes]:
    """A scheduler, and workers as they are asked for; all end with the context."""
    started = Processes(folder, prelude)
    try:
        yield started
    finally:
        started.end()
