"""Datasets of the demo's videos, and the command line as a user meets it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed import Client

from tests.clusters import in_this_process

REPOSITORY = Path(__file__).resolve().parents[2]
BUILD = ("--size=48x64", "--frames=9", "--fps=12", "--flow=variational", "--levels=1,2")
ONE_BY_ONE = ("--clips-per-shard=1", "--workers=1")
# As a terminal starts it, whatever the tests were started from.
START = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from fluxshard.main import main; sys.exit(main())"
)

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def demo_dataset(demo_videos: list[str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A dataset of three of the demo's videos, with two flow layers, and two rejects."""
    from fluxshard.demo.videos import DEMO_CONFIG
    from pipeline.building.make_dataset import make_dataset
    from pipeline.cluster import connect
    from pipeline.source.inputs import find_sources
    from shards import Store

    names = {"h264.mp4", "fast.webm", "rotated.mp4", "not_a_video.mp4", "too_short.mp4"}
    sources = [s for s in find_sources(demo_videos)[0] if Path(s.path).name in names]
    url = str(tmp_path_factory.mktemp("demo") / "dataset")
    config = replace(DEMO_CONFIG, flow="variational,dis")
    with connect(None, 1) as client:
        make_dataset(sources, [], Store(url), config, client, lambda *_: None)
    return url


@pytest.fixture(scope="session")
def dataset(demo_videos: list[str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A dataset that the command line built of two of the demo's videos, with one flow layer."""
    from fluxshard.main import main

    out = str(tmp_path_factory.mktemp("cli") / "dataset")
    sources = [str(Path(demo_videos[-1], name)) for name in ("slow.mp4", "vp9.webm")]
    assert main(["build", *sources, out, *BUILD, *ONE_BY_ONE]) == 0
    return out


@pytest.fixture(autouse=True)
def jobs_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Local workers are a thread here, which takes less time than to start others.

    `dataset` was made by processes, and so is what `interrupt` starts.
    """
    from pipeline import cluster

    connect = cluster.connect

    def connected(scheduler: str | None, *rest: Any) -> AbstractContextManager[Client]:
        return connect(scheduler, *rest) if scheduler else in_this_process()

    monkeypatch.setattr(cluster, "connect", connected)


@pytest.fixture(scope="session")
def build_options() -> tuple[str, ...]:
    """The options of `build` that `dataset` was built with."""
    return *BUILD, *ONE_BY_ONE


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """`run(*arguments)`: exit code, standard output, standard error."""
    from fluxshard.main import main

    def call(*arguments: str) -> tuple[int, str, str]:
        try:
            code = main(arguments)
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def facts_of(run: Run) -> Callable[[str], dict]:
    """`facts_of(dataset)`: what `info --json` says."""
    return lambda dataset: json.loads(run("info", dataset, "--json")[1])


@pytest.fixture
def interrupt(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """`interrupt(arguments, ready, group=...)`: exit code, and all that was printed.

    Starts the command, sends Ctrl-C once `ready()`, to the process or as a terminal does to its
    whole group, and checks that no process of it is left.
    """

    def call(arguments: list[str], ready: Callable[[], bool], *, group: bool) -> tuple[int, str]:
        log = tmp_path / "log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-c", START, *arguments],
                stdout=file,
                stderr=file,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            )
        while not ready():
            assert process.poll() is None, log.read_text()
            time.sleep(0.01)
        (os.killpg if group else os.kill)(process.pid, signal.SIGINT)
        code = process.wait(timeout=120)
        while alive(process.pid):  # else the time limit of the test
            time.sleep(0.05)
        return code, log.read_text()

    return call


def alive(session: int) -> list[psutil.Process]:
    """Processes of a session that have not ended."""

    def is_of_it(process: psutil.Process) -> bool:
        with suppress(OSError, psutil.Error):
            return os.getsid(process.pid) == session and process.status() != "zombie"
        return False

    return [process for process in psutil.process_iter() if is_of_it(process)]
