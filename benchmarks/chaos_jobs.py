"""What befalls a build: drawn from a seed, and done to its processes, videos and disk."""

import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

LIMIT_S = 180.0  # a run that takes longer hangs
OPTIONS = ("--size=48x64", "--frames=5", "--levels=1,2", "--shots=none", "--no-flow-cache")
# Waiting is not what is tested: a lease of a killed job runs out sooner, scans are tried sooner.
CHILD = """
import sys
from fluxshard.main import main
from pipeline.planning import scan_all
from shards.storage import locks
locks.PATIENCE_S, locks.RENEWAL_S, scan_all.PAUSES_S = 3.0, 0.5, (0.2, 1.0)
sys.exit(main(sys.argv[1:]))
"""

Random = np.random.Generator


@dataclass(frozen=True, kw_only=True, slots=True)
class Strike:
    """One thing that happens to a run.

    Attributes:
        at, until: shares of the time of a calm build.
        what: `worker`, `client`, `group`, `gone` or `swapped`.
    """

    at: float
    what: str
    until: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What happens to one build, drawn before it starts.

    Attributes:
        runs: the strikes of each disturbed run, in the order of their time.
        room: share of the dataset that fits on the disk.
        fault_rate: share of the requests to object storage that fail.
    """

    kind: str
    flow: str
    clips_per_shard: int
    workers: int
    runs: tuple[tuple[Strike, ...], ...]
    room: float
    fault_rate: float

    @property
    def options(self) -> list[str]:
        """Those that decide the bytes."""
        return [*OPTIONS, f"--flow={self.flow}", f"--clips-per-shard={self.clips_per_shard}"]


def draw(kind: str, random: Random) -> Plan:
    """The plan of one build."""
    calm = kind in ("disk", "storage") and random.random() < 0.5
    runs = [
        () if calm else tuple(strikes(kind, random))
        for _ in range(1 if calm else random.integers(1, 4))
    ]
    return Plan(
        kind=kind,
        flow=str(random.choice(["dis", "none"])),
        clips_per_shard=int(random.choice([3, 16])),
        workers=int(random.choice([1, 2, 2, 3])),
        runs=tuple(runs),
        room=random.uniform(0.05, 0.95),
        fault_rate=float(random.choice([0.03, 0.1, 0.3])),
    )


def strikes(kind: str, random: Random) -> Iterator[Strike]:
    """What happens to one run, in the order of time."""
    usual = {
        "workers": ["worker"],
        "client": ["client", "group"],
        "sources": ["gone", "swapped"],
    }.get(kind, ["worker", "client", "group"])
    for at in sorted(random.uniform(0.2, 1.1, random.integers(1, 4))):
        what = str(random.choice([*usual, "group"] if random.random() < 0.2 else usual))
        yield Strike(at=at, what=what, until=at + random.uniform(0.02, 0.3))
        if what in ("client", "group"):
            return


class Job:
    """`fluxshard build` in processes of its own."""

    def __init__(self, arguments: Sequence[str], largest: int | None = None) -> None:
        limit = None if largest is None else partial(_limit_files, largest)
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `bury`
        self._process = subprocess.Popen(
            [sys.executable, "-c", CHILD, "build", *arguments],
            stdout=self._log,
            stderr=self._log,
            preexec_fn=limit,
            start_new_session=True,
        )

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def wait(self, seconds: float) -> None:
        """Until that long has passed, or it has ended."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(seconds, 0))

    def kill(self, what: str, random: Random) -> None:
        """The client, its group or any one worker."""
        if what == "group":
            os.killpg(self._process.pid, signal.SIGKILL)
        elif what == "client":
            self._process.kill()
        elif workers := workers_of(self._process.pid):
            with suppress(ProcessLookupError):
                os.kill(int(random.choice(workers)), signal.SIGKILL)

    def end(self) -> tuple[int, str]:
        """Its exit code, and what it said; it had `LIMIT_S`."""
        try:
            code = self._process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill("group", np.random.default_rng())
            code = self._process.wait()
            self._log.write(f"\nkilled: it had not ended after {LIMIT_S:g} s")
        self._log.seek(0)
        return code, self._log.read()

    def bury(self) -> None:
        """End what is left of its process group."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._log.close()


def _limit_files(largest: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))


def workers_of(pid: int) -> list[int]:
    """The worker processes of a client."""
    children = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            children += list(map(int, task.read_text().split()))
    with suppress(OSError):
        return [c for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]
    return []


def disturb(job: Job, run: Sequence[Strike], videos: Path, calm_s: float, random: Random) -> None:
    """Let happen to a job what is to happen, until it ends."""
    began = time.monotonic()
    threads: list[threading.Thread] = []
    for strike in run:
        job.wait(began + strike.at * calm_s - time.monotonic())
        if job.has_ended:
            break
        if strike.what in ("gone", "swapped"):
            lasts = (strike.until - strike.at) * calm_s
            one, other = random.choice(sorted(videos.glob("*.*")), 2, replace=False)
            if all(thread.name != str(one) for thread in threads):
                act = partial(_displace, one, other if strike.what == "swapped" else None, lasts)
                threads.append(threading.Thread(target=act, name=str(one)))
                threads[-1].start()
        else:
            job.kill(strike.what, random)
    if not (run and run[-1].what in ("client", "group")):
        job.end()
    for thread in threads:
        thread.join()


def _displace(video: Path, other: Path | None, seconds: float) -> None:
    """A video is not there for a while, or has another's bytes; then it is the same file again."""
    aside = video.parent / "aside"
    aside.mkdir(exist_ok=True)
    data = other.read_bytes() if other and other.exists() else None
    video.rename(aside / video.name)
    if data is not None:
        video.write_bytes(data)
    time.sleep(seconds)
    (aside / video.name).replace(video)


@contextmanager
def small_disk(folder: Path) -> Iterator[Callable[[int], bool]]:
    """A folder on a disk of its own; call the value with its bytes, where that can be done."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], capture_output=True
    )

    def resize(size: int) -> bool:
        if mounted.returncode == 0:
            subprocess.run(["mount", "-o", f"remount,size={size}", folder], check=True)
        return mounted.returncode == 0

    try:
        yield resize
    finally:
        if mounted.returncode == 0:
            subprocess.run(["umount", "-l", folder], check=True)
