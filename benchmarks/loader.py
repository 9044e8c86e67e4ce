"""How fast batches of clips come: our stream beside a bare loop and other people's loaders.

    bash benchmarks/loader_rivals.sh .rivals
    python benchmarks/loader.py --data FOLDER --rivals .rivals --work FOLDER [--json FILE]
        [--storages warm slow] [--workers 2] [--only stream spdl …] [--rounds N] [--batches N]

All read the same mp4 bytes, 16 frames at 256x384, and end in contiguous tensors on the CPU: frames
uint8 [8, 16, 3, 256, 384], and with flow float32 [8, 15, 2, 256, 384], which rivals read as halves
(`npy`) or as KITTI's 16-bit PNG (`png`) and we as it is stored. Each run is a process of its own,
on 1 or 2 threads or worker processes; the ways take turns. The storage:

    warm    everything in the page cache
    cold    the page cache dropped before the run; the first epoch is timed
    slow    as cold, and no more than 200 MB/s from all processes together (benchmarks/throttle.c)

`bare` decodes clips that lie in memory, on threads, and does nothing else. `spdl` is what threads
alone give, without an order or a shuffle across shards. First batch: from the start of the process.
Memory: of all processes of a way, shared pages once. With --json every run is kept, and a script
that was stopped goes on where it was.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RIVALS = {
    "webdataset": "common",
    "webdataset-torchcodec": "common",
    "spdl": "common",
    "litdata": "common",
    "energon": "energon",
    "energon-torchcodec": "energon",
    "mosaic": "mosaic",
}
FORMAT = {name: name.partition("-")[0] for name in RIVALS} | dict.fromkeys(
    ("webdataset", "webdataset-torchcodec", "spdl"), "tars"
)
OURS, RATE = ("bare", "stream"), 200e6
STORAGES = ("warm", "cold", "slow")


@dataclass(frozen=True, slots=True)
class Way:
    """One line of the table."""

    system: str
    flow: str  # none, npy, png; for ours none, stored
    workers: int
    storage: str

    def __str__(self) -> str:
        return f"{self.system} {self.flow} {self.workers} {self.storage}"


def ways(storages: Sequence[str], workers_of: Sequence[int], systems: Sequence[str]) -> list[Way]:
    """Everything that is run."""
    found = []
    for storage in storages:
        for workers in workers_of:
            for system in systems:
                flows = ("none", "stored") if system in OURS else ("none", "npy", "png")
                found += [Way(system, flow, workers, storage) for flow in flows]
    return [way for way in found if way.system != "bare" or way.storage == "warm"]


@dataclass(frozen=True, slots=True)
class Bench:
    """Where everything is."""

    work: Path
    rivals: Path
    batches: int  # of a run in the page cache; half as many from elsewhere

    def folder(self, way: Way) -> Path:
        """What the way reads."""
        if way.system in OURS:
            return self.work
        return self.work / f"{FORMAT[way.system]}-{way.flow}"

    def call(self, system: str, *arguments: object, **variables: str) -> str:
        """Run our script or a rival's, and return what it prints."""
        environment = os.environ | variables
        if system in OURS:
            command = [sys.executable, HERE / "loader_ours.py"]
        else:
            home = self.rivals / RIVALS[system]
            command = [home / "bin" / "python", HERE / "loader_rivals.py"]
            libraries = f"{home}/ffmpeg:{home}/ffmpeg/hashed"
            environment |= {"LD_LIBRARY_PATH": libraries}
        words = [str(word) for word in (*command, *arguments)]
        environment |= {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True)
        if done.returncode:
            raise RuntimeError(f"exit {done.returncode}: {' '.join(words)}")
        return done.stdout

    def prepare(self, data: Path, clips: int, wanted: Iterable[Way]) -> None:
        """Write what the ways read, where it is not there yet."""
        if not (self.work / "clips").exists():
            self.call("stream", "write", data, self.work, "--clips", clips)
        for way in wanted:
            if way.system not in OURS and not self.folder(way).exists():
                partial = self.folder(way).with_suffix(".part")
                subprocess.run(["rm", "-rf", partial], check=True)
                options = ("--flow", way.flow)
                self.call(way.system, "write", way.system, self.work / "clips", partial, *options)
                partial.rename(self.folder(way))

    def run(self, way: Way) -> dict[str, Any]:
        """Figures of one run."""
        batches = self.batches if way.storage == "warm" else self.batches // 2
        warm = max(1, batches // 5)
        options = ["--workers", way.workers, "--batches", batches, "--warm", warm]
        if way.system in OURS:
            options += ["--flow", way.flow]
        slow = {}
        if way.storage != "warm":
            drop_cache(self.work / "dataset" if way.system in OURS else self.folder(way))
        if way.storage == "slow":
            clock = self.work / "clock"
            clock.unlink(missing_ok=True)
            slow = {
                "LD_PRELOAD": str(self.throttle()),
                "THROTTLE_FOLDER": str(self.work.resolve()),
                "THROTTLE_CLOCK": str(clock),
                "THROTTLE_RATE": str(RATE),
                "LITDATA_POSIX_FAST": "0",  # it would map the files, which are not slow then
            }
        printed = self.call(way.system, "read", way.system, self.folder(way), *options, **slow)
        figures: dict[str, Any] = json.loads(printed.splitlines()[-1])
        return figures

    def throttle(self) -> Path:
        library = self.work / "throttle.so"
        if not library.exists():
            source = HERE / "throttle.c"
            subprocess.run(
                ["cc", "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True
            )
        return library


def drop_cache(folder: Path) -> None:
    """Have the kernel forget the pages of all files below a folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def report(runs: dict[str, list[dict[str, Any]]]) -> None:
    """Print medians, and the ratios that count."""
    names = ("clips_s", "processor_ms", "first_s", "resident_mib")
    rate: dict[tuple[str, bool, str, str, str], float] = {}
    print(f"{'system':24}{'flow':8}{'workers':>8}{'storage':>9}", end="")
    print("".join(f"{name:>14}" for name in ("clips/s", "cpu ms/clip", "first s", "MiB")))
    for way, rows in runs.items():
        system, flow, workers, storage = way.split()
        middle = [statistics.median(row[name] for row in rows) for name in names]
        rate[system, flow != "none", workers, storage, flow] = middle[0]
        print(f"{system:24}{flow:8}{workers:>8}{storage:>9}", end="")
        print("".join(f"{value:14.1f}" for value in middle))
    print()
    for (system, has_flow, workers, storage, kind), ours in rate.items():
        if system != "stream":
            continue
        others = {
            f"{name} ({form})": value
            for (name, has, threads, where, form), value in rate.items()
            if name not in OURS and (has, threads, where) == (has_flow, workers, storage)
        }
        line = f"{'frames + flow' if has_flow else 'frames':14}{workers} workers, {storage}:"
        bare = rate.get(("bare", has_flow, workers, "warm", kind))
        line += f" {ours / bare:.0%} of the bare loop" if bare else ""
        if others:
            best = max(others, key=others.__getitem__)
            line += f"; {ours / others[best]:.2f} times the best rival, {best}"
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of videos")
    parser.add_argument("--work", type=Path, default=Path("loader-work"), help="what is read")
    parser.add_argument("--rivals", type=Path, default=Path(".rivals"))
    parser.add_argument("--clips", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=40, help="timed in a run")
    parser.add_argument("--only", nargs="*", help="systems to run; all that are installed if unset")
    parser.add_argument("--storages", nargs="*", choices=STORAGES, default=STORAGES)
    parser.add_argument("--workers", nargs="*", type=int, default=(1, 2))
    parser.add_argument("--json", type=Path, help="keeps every run, and is gone on from")
    asked = parser.parse_args()
    present = [name for name, home in RIVALS.items() if (asked.rivals / home / "bin").exists()]
    systems = [name for name in (*OURS, *present) if not asked.only or name in asked.only]
    data = asked.data / "videos" if (asked.data / "videos").is_dir() else asked.data
    asked.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(asked.work, asked.rivals, asked.batches)
    wanted = ways(asked.storages, asked.workers, systems)
    bench.prepare(data, asked.clips, wanted)
    runs = json.loads(asked.json.read_text()) if asked.json and asked.json.exists() else {}
    for number in range(asked.rounds):
        for way in wanted:
            if len(runs.setdefault(str(way), [])) <= number:
                print(f"round {number + 1}: {way}", file=sys.stderr, flush=True)
                runs[str(way)].append(bench.run(way))
                if asked.json:
                    asked.json.write_text(json.dumps(runs, indent=1))
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "av", "numpy"))
    cpu = platform.processor() or platform.machine()
    print(f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}\n")
    report({str(way): runs[str(way)] for way in wanted})


if __name__ == "__main__":
    main()
