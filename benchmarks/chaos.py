"""Builds disturbed at random times: after one clean rerun each has the bytes of a calm one.

    python benchmarks/chaos.py --data FOLDER [--builds 50] [--seed 0] [--kinds workers,disk]

What befalls a build, by its kind; a kind also meets SIGKILL now and then:

    workers     SIGKILL of worker processes
    client      SIGKILL of the client with its scheduler, alone or with the whole process group
    disk        no space left: a small tmpfs (as root), else a largest size of files
    storage     the dataset is in a bucket behind a proxy that fails, drops, cuts and stalls
    sources     a video is gone for a while, or another one is in its place

There are one to three disturbed runs, until one succeeds all the same. Then all is as it should
be, the same command runs once more, and must exit with 0. The dataset must hold the files of an
undisturbed one, byte for byte, and no other: no temporary file, no lock. What happens and when, as
a share of the time of a calm build, depends on the seed alone.
"""

import argparse
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.append(str(REPOSITORY))  # the tests' servers

from shards import Dataset, Store, encode_clip  # noqa: E402
from shards.manifest import sha256_of  # noqa: E402
from tests.servers import FAULTS, STALL_S, Proxy, make_bucket, s3_server, s3_settings, use_s3  # noqa: E402

KINDS = ("workers", "client", "disk", "storage", "sources")
REAL = ("frames.webm", "bear-vp9.webm")
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
Files = Mapping[str, bytes]


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


def contents(store: Store) -> dict[str, bytes]:
    """Every file there is, of the dataset or not."""
    return {name: store.read(name) for name in store._found("")}


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How a build ended.

    Attributes:
        problem: why it is not as it should be; "" if it is.
        codes: exit codes of the disturbed runs; negative for signals.
        void: whether a disturbed run finished on a video that was in another's place: that
            was its input, so there is nothing to compare with, and the build is drawn anew.
    """

    problem: str = ""
    codes: tuple[int, ...] = ()
    void: bool = False


class Arena:
    """Where builds are disturbed.

    Args:
        folder: of everything.
        data: folder with real videos, or None.
        proxy: before a server of object storage.
    """

    def __init__(self, folder: Path, data: Path | None, proxy: Proxy) -> None:
        self._folder, self._proxy = folder, proxy
        self._videos = folder / "videos"
        paths = make_videos(self._videos, data)
        self._digests = {sha256_of(path.read_bytes()) for path in paths}
        self._list = folder / "list.csv"
        self._list.write_text("\n".join(["video", *map(str, paths)]))
        self._calm: dict[tuple[str, ...], tuple[Files, float]] = {}

    def calm(self, plan: Plan) -> tuple[Files, float]:
        """The files of the undisturbed dataset, and the seconds that it took."""
        options = tuple(plan.options)
        if options not in self._calm:
            out, began = self._folder / f"calm-{len(self._calm)}", time.monotonic()
            job = Job([str(self._list), str(out), *options, f"--workers={plan.workers}"])
            code, said = job.end()
            if code:
                raise RuntimeError(f"the undisturbed build ended with {code}:\n{said}")
            self._calm[options] = contents(Store(out)), time.monotonic() - began
            shutil.rmtree(out)
        return self._calm[options]

    def run(self, plan: Plan, random: Random) -> Ending:
        """Disturb a build, then let it go on."""
        calm, calm_s = self.calm(plan)
        self._proxy.faults = lambda *_: None
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self._folder)))
            out, largest = str(folder / "dataset"), None
            room = int(plan.room * sum(map(len, calm.values())))
            if plan.kind == "storage":
                out = f"{make_bucket()}/dataset"
                self._proxy.faults = faults(plan.fault_rate, int(random.integers(2**31)))
            if plan.kind == "disk":
                resize = stack.enter_context(small_disk(folder / "disk"))
                out = str(folder / "disk" / "dataset")
                largest = None if resize(room) else room // 4
            arguments = [str(self._list), out, *plan.options, f"--workers={plan.workers}"]
            jobs = []
            for run in plan.runs:
                jobs.append(Job(arguments, largest))
                stack.callback(jobs[-1].bury)
                disturb(jobs[-1], run, self._videos, calm_s, random)
                if jobs[-1].end()[0] == 0:
                    break
            codes = tuple(job.end()[0] for job in jobs)
            self._proxy.faults = lambda *_: None
            if largest is None and plan.kind == "disk":
                resize(2**26)
            last = Job(arguments)
            stack.callback(last.bury)
            code, said = last.end()
            if plan.kind == "sources" and 0 in codes and not self._is_ours(out):
                return Ending(codes=codes, void=True)
            problem = said if code else difference(contents(Store(out)), calm)
            return Ending(codes=codes, problem=problem)

    def _is_ours(self, out: str) -> bool:
        """Whether all clips are of the videos as they are now."""
        return {*Dataset(out).clips["source_sha256"].to_pylist()} <= self._digests


def make_videos(folder: Path, data: Path | None) -> list[Path]:
    """Three small ones encoded here, and real ones where there are any."""
    folder.mkdir()
    for number, frames in enumerate((60, 45, 25)):
        noise = np.random.default_rng(number).integers(0, 256, (3, 12, 32), np.uint8)
        wide = noise.repeat(6, 1).repeat(6, 2)
        shown = np.stack([wide[:, :, i : i + 96] for i in range(frames)])
        video = encode_clip(shown, Fraction(10), crf=18)
        (folder / f"made-{number}.mp4").write_bytes(video)
    for path in [data / "videos" / name for name in REAL] if data else []:
        shutil.copy(path, folder / path.name)
    return sorted(folder.iterdir())


def faults(rate: float, seed: int) -> Callable[[int, str, str], str | None]:
    """A share of the requests meets a fault, each any one."""

    def fault(number: int, *_: str) -> str | None:
        random = np.random.default_rng([seed, number])
        return str(random.choice(FAULTS)) if random.random() < rate else None

    return fault


def difference(found: Files, expected: Files) -> str:
    """What is not the same, in words; "" if nothing is."""
    return "; ".join(
        [
            *(f"{name} is missing" for name in sorted(expected.keys() - found.keys())),
            *(f"{name} is left" for name in sorted(found.keys() - expected.keys())),
            *(
                f"{name} differs"
                for name in sorted(found.keys() & expected.keys())
                if found[name] != expected[name]
            ),
        ]
    )


@contextmanager
def arena(data: Path | None) -> Iterator[Arena]:
    """A fresh one, with a server of object storage."""
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as folder,
        pytest.MonkeyPatch.context() as patch,
        s3_server() as endpoint,
        Proxy(endpoint).running() as proxy,
    ):
        patch.setenv("OMP_WAIT_POLICY", "PASSIVE")
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        use_s3(patch, s3_settings(proxy.url, config_kwargs={"read_timeout": STALL_S / 3}))
        yield Arena(Path(folder), data, proxy)


def build(place: Arena, kind: str, seed: Sequence[int]) -> tuple[Plan, Ending]:
    """One build of a kind; drawn anew where there is nothing to compare with."""
    for again in range(5):
        random = np.random.default_rng([*seed, again])
        plan = draw(kind, random)
        ending = place.run(plan, random)
        if not ending.void:
            return plan, ending
    raise RuntimeError(f"build {seed} finished on videos in others' places five times")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; returns how many builds did not end as they should."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of the test data, for real videos")
    parser.add_argument("--builds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first build")
    parser.add_argument("--kinds", default=",".join(KINDS), help="which, with commas between")
    options = parser.parse_args(arguments)
    kinds, tally, failed = options.kinds.split(","), Counter[tuple[str, str]](), 0
    began = time.monotonic()
    with arena(options.data) as place:
        for number in range(options.first, options.first + options.builds):
            kind = kinds[number % len(kinds)]
            plan, ending = build(place, kind, [options.seed, number])
            what = [strike.what for run in plan.runs for strike in run]
            tally.update((kind, each) for each in what)
            tally[kind, "runs"] += len(plan.runs)
            tally[kind, "builds"] += 1
            tally[kind, "identical"] += not ending.problem
            failed += bool(ending.problem)
            print(
                f"{number:4} {kind:8} flow {plan.flow:4}, {plan.workers} workers, exit codes "
                f"{ending.codes}, {' '.join(what) or '-'}: {ending.problem or 'identical'}",
                flush=True,
            )
    columns = ("builds", "runs", "worker", "client", "group", "gone", "swapped", "identical")
    print(f"\n{platform.machine()}, {os.cpu_count()} cores, seed {options.seed}, "
          f"{time.monotonic() - began:.0f} s")  # fmt: skip
    print(" ".join(f"{name:>9}" for name in ("kind", *columns)))
    for kind in kinds:
        print(" ".join([f"{kind:>9}", *(f"{tally[kind, column]:9}" for column in columns)]))
    return failed


if __name__ == "__main__":
    sys.exit(min(main(), 1))
