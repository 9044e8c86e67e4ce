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
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from chaos_jobs import Job, Plan, Random, disturb, draw, small_disk

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.append(str(REPOSITORY))  # the tests' servers

from shards import Store, encode_clip  # noqa: E402
from tests.servers import (  # noqa: E402
    FAULTS,
    STALL_S,
    Proxy,
    make_bucket,
    s3_server,
    s3_settings,
    use_s3,
)

KINDS = ("workers", "client", "disk", "storage", "sources")
REAL = ("frames.webm", "bear-vp9.webm")
Files = Mapping[str, bytes]


def contents(store: Store) -> dict[str, bytes]:
    """Every file there is, of the dataset or not."""
    return {name: store.read(name) for name in store._found("")}


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
            job.bury()
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
            if codes[-1] == 0 and inputs_of(contents(Store(out))) != inputs_of(calm):
                return Ending(codes=codes, void=True)
            if largest is None and plan.kind == "disk":
                resize(2**26)
            last = Job(arguments)
            stack.callback(last.bury)
            code, said = last.end()
            problem = said if code else difference(contents(Store(out)), calm)
            return Ending(codes=codes, problem=problem)


def inputs_of(files: Files) -> str:
    """The digest of what a dataset was made from."""
    return json.loads(files["manifest.json"])["inputs"]


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
