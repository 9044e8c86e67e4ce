"""Builds on a Dask cluster that others run, from the command line."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from fluxshard.main import main
from shards import Store, encode_clip
from tests.clusters import REPOSITORY, Processes, processes

OPTIONS = ["--size=32x48", "--frames=5", "--levels=1", "--shots=none", "--clips-per-shard=2"]
OPTIONS += ["--flow=dis"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with processes(tmp_path_factory.mktemp("cluster")) as cluster:
        cluster.worker()
        yield cluster


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a folder of two videos, `videos`."""
    home = tmp_path_factory.mktemp("home")
    (home / "videos").mkdir()
    for number, frames in enumerate((60, 45)):
        noise = np.random.default_rng(number).integers(0, 256, (3, 12, 32), np.uint8)
        wide = noise.repeat(6, 1).repeat(6, 2)
        shown = np.stack([wide[:, :, i : i + 96] for i in range(frames)])
        video = encode_clip(shown, Fraction(10), crf=18)
        (home / "videos" / f"{number}.mp4").write_bytes(video)
    return home


@pytest.fixture(scope="module")
def calm(home: Path, cluster: Processes) -> dict[str, bytes]:
    """The files of the dataset."""
    out = home / "calm"
    assert main(["build", str(home / "videos"), str(out), *OPTIONS, at(cluster)]) == 0
    return contents(out)


def at(cluster: Processes) -> str:
    return f"--scheduler={cluster.address}"


def contents(out: Path) -> dict[str, bytes]:
    store = Store(out)
    return {name: store.read(name) for name in store._found("")}


def test_relative_paths_mean_what_they_mean_here(
    home: Path, cluster: Processes, calm: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, capsys
):
    """Workers run in other folders."""
    monkeypatch.chdir(home)
    build = ["build", "videos", "out", *OPTIONS, "--flow-cache=cache", at(cluster)]
    assert main(build) == 0
    assert contents(home / "out") == calm
    assert "dashboard: http://127.0.0.1:" in capsys.readouterr().err


def run_job(arguments: list[str]) -> subprocess.Popen[str]:
    code = "import sys; from fluxshard.main import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_shard(out: Path, job: subprocess.Popen[str]) -> None:
    while not (out / "clips" / "000001.tar").exists():
        assert job.poll() is None
        time.sleep(0.01)


@pytest.mark.parametrize("ends", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_a_rerun_at_once_beside_what_is_left_of_a_job_gives_the_same_bytes(
    ends: signal.Signals, home: Path, cluster: Processes, calm: dict[str, bytes]
):
    out = home / f"left-{ends}"
    build = ["build", str(home / "videos"), str(out), *OPTIONS, "--no-flow-cache", at(cluster)]
    with run_job(build) as job:
        wait_for_shard(out, job)
        job.send_signal(ends)
        _, said = job.communicate()
    assert "Traceback" not in said
    assert main(build) == 0
    assert contents(out) == calm


@pytest.mark.drill
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("answers_ctrl_c")
@pytest.mark.parametrize("joined", [True, False])
def test_ctrl_c_at_any_time_of_a_build_leaves_no_traceback(
    joined: bool, home: Path, cluster: Processes, tmp_path: Path
):
    """What has started by then, and on which thread, differs each time."""
    where = at(cluster) if joined else "--workers=2"
    for number, wait in enumerate(np.random.default_rng(0).uniform(1, 9, 50)):
        out = str(tmp_path / str(number))
        with run_job(
            ["build", str(home / "videos"), out, *OPTIONS, "--no-flow-cache", where]
        ) as job:
            with suppress(subprocess.TimeoutExpired):
                job.wait(wait)
            job.send_signal(signal.SIGINT)
            _, said = job.communicate()
        assert "Traceback" not in said
        assert (job.returncode == 130) == ("interrupted" in said)
        assert job.returncode in (0, 130, -signal.SIGINT)  # the last: Python itself was ending


def test_a_scheduler_that_goes_away_is_told_of_and_a_rerun_goes_on(
    home: Path, cluster: Processes, calm: dict[str, bytes], tmp_path: Path
):
    out = home / "gone"
    build = ["build", str(home / "videos"), str(out), *OPTIONS, "--no-flow-cache"]
    with processes(tmp_path) as other:
        other.worker()
        with run_job([*build, at(other)]) as job:
            wait_for_shard(out, job)
            other.scheduler.kill()
            _, said = job.communicate()
    assert job.returncode == 1
    assert f"the Dask scheduler at {other.address} went away: what is built stays" in said
    assert "Traceback" not in said
    assert main([*build, at(cluster)]) == 0
    assert contents(out) == calm
