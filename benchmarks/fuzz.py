"""Damaged videos through probe, scan and decode: each must end as clips or as a reject.

    python benchmarks/fuzz.py --data FOLDER [--mutants 2000] [--seed 0] [--keep FOLDER]

Mutants are made of small files of FOLDER/videos and FOLDER/bad, and of others encoded here: flipped
bits, cut ends, zeroed ranges, blocks spliced from elsewhere, edited headers. They run in a child
process that may use 2 GiB of address space beyond what it starts with, and 60 s for each.
"""

import argparse
import multiprocessing
import os
import platform
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import count, islice
from multiprocessing.connection import Connection
from pathlib import Path

import av
import numpy as np

from pipeline import Source
from pipeline.planning.clips import ClipRule
from pipeline.planning.scan import scan_video
from pipeline.records import Reject
from pipeline.source.clip_frames import read_clips

LARGEST = 120_000  # bytes of a file that mutants are made of
MEMORY = 2 * 2**30  # bytes
PATIENCE_S = 60.0
RULE = ClipRule(size=(32, 48), frames=5, fps=None)
GENERATED = {
    "mpeg4.avi": "mpeg4",
    "h264.mkv": "libx264",
    "mpeg2.ts": "mpeg2video",
    "sorenson.flv": "flv",
    "jpeg.mov": "mjpeg",
    "vp8.webm": "libvpx",
    "ms.asf": "msmpeg4v2",
    "mpeg1.mpg": "mpeg1video",
    "lossless.nut": "ffv1",
    "pieces.mp4": "libx264",
}
FEW = 3  # clips of a mutant that are decoded

Random = np.random.Generator


def flip_bits(data: np.ndarray, random: Random) -> np.ndarray:
    """1 to 64 of them."""
    for at in random.integers(0, data.size, 2 ** random.integers(0, 7)):
        data[at] ^= 1 << random.integers(0, 8)
    return data


def cut(data: np.ndarray, random: Random) -> np.ndarray:
    """The end is missing."""
    return data[: random.integers(1, data.size)]


def zero(data: np.ndarray, random: Random) -> np.ndarray:
    """A range."""
    start = random.integers(0, data.size)
    data[start : start + 2 ** random.integers(2, 14)] = 0
    return data


def splice(data: np.ndarray, random: Random) -> np.ndarray:
    """A block from elsewhere in the file, written over or put between."""
    size = min(2 ** int(random.integers(2, 14)), len(data))
    start, at = random.integers(0, len(data) - size + 1, 2)
    block = data[start : start + size].copy()
    if random.random() < 0.5:
        return np.concatenate([data[:at], block, data[at:]])
    data[at : at + size] = block
    return data


def edit_header(data: np.ndarray, random: Random) -> np.ndarray:
    """A few bytes near the start or the end, where containers have their tables, go extreme."""
    for _ in range(random.integers(1, 5)):
        at = int(random.integers(0, min(4096, data.size)))
        at = data.size - 1 - at if random.random() < 0.4 else at
        width = int(2 ** random.integers(0, 4))
        data[at : at + width] = random.choice([0, 1, 0x7F, 0x80, 0xFF])
    return data


MUTATIONS: tuple[Callable[[np.ndarray, Random], np.ndarray], ...] = (
    *(flip_bits, cut, zero, splice, edit_header),
)


def mutants(files: Sequence[Path], seed: int) -> Iterator[tuple[str, bytes]]:
    """(what was done to which file, the result), without end; the same for the same seed."""
    for number in count():
        random = np.random.default_rng([seed, number])
        path = files[number % len(files)]
        mutation = MUTATIONS[number // len(files) % len(MUTATIONS)]
        data = mutation(np.frombuffer(path.read_bytes(), np.uint8).copy(), random)
        yield f"{number:05d}-{mutation.__name__}-{path.name}", data.tobytes()


def small_files(data: Path, largest: int = LARGEST) -> list[Path]:
    """Those of the test data that are worth damaging."""
    found = sorted([*(data / "videos").iterdir(), *(data / "bad").iterdir()])
    return [path for path in found if 500 <= path.stat().st_size <= largest]


def generate(folder: Path) -> list[Path]:
    """Twelve frames in every container and codec of `GENERATED`."""
    random = np.random.default_rng(0)
    texture = np.kron(random.integers(0, 256, (9, 12, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    for name, codec in GENERATED.items():
        pieces = {"movflags": "frag_keyframe+empty_moov"} if name == "pieces.mp4" else {}
        with av.open(str(folder / name), "w", options=pieces) as container:
            stream = container.add_stream(codec, rate=25)
            assert isinstance(stream, av.VideoStream)
            stream.height, stream.width = 48, 64
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            for n in range(12):
                picture = np.ascontiguousarray(texture[n : n + 48, 2 * n : 2 * n + 64])
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                container.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
            container.mux(stream.encode(None))
    return [folder / name for name in GENERATED]


def outcome(path: str) -> str:
    """What comes of a file: `clips`, or the reason of the reject; events and errors by name."""
    try:
        scan = scan_video(Source(path=path), RULE, detector="none")
        if isinstance(scan, Reject):
            return f"reject: {scan.reason}"
        clips = scan[1][:: max(1, len(scan[1]) // FEW)][:FEW]
        lost = sum(isinstance(frames, Reject) for frames in read_clips(clips))
        return "clips, some lost" if lost else "clips"
    except Exception as error:
        return f"ERROR: {type(error).__name__}: {error}"


def _child(pipe: Connection) -> None:
    outcome(os.devnull)  # what is loaded on first use
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while path := pipe.recv():
        result = outcome(path)
        pipe.send((result, _peak_mib()))


def _peak_mib() -> float:
    """Of this process; `ru_maxrss` would start at that of the process which started it."""
    status = Path("/proc/self/status").read_text()
    (peak,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) / 1024


class Child:
    """A process that takes files, until it dies or hangs.

    Attributes:
        ended: there it is.
    """

    def __init__(self) -> None:
        self.ended = False
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_child, args=(other,), daemon=True)
        self._process.start()
        other.close()

    def run(self, path: str) -> tuple[str, float]:
        """The outcome, and the process's peak memory so far in MiB."""
        try:
            self._pipe.send(path)
            if self._pipe.poll(PATIENCE_S):
                return self._pipe.recv()
            result = "HANG"
        except (EOFError, OSError):
            self._process.join()
            result = f"CRASH: exit code {self._process.exitcode}"
        self.close()
        return result, 0.0

    def close(self) -> None:
        """End the process."""
        self.ended = True
        self._process.kill()
        self._process.join()
        self._pipe.close()


@dataclass(slots=True)
class Tally:
    """What came of all mutants.

    Attributes:
        outcomes: how many of each kind.
        failures: by name of the mutant, those that ended as neither clips nor a reject.
        peak_mib: largest peak memory of a child.
        slowest_s: longest time for one mutant.
    """

    outcomes: Counter[str]
    failures: dict[str, str]
    peak_mib: float = 0.0
    slowest_s: float = 0.0


def run(files: Sequence[Path], mutants_wanted: int, seed: int, keep: Path | None = None) -> Tally:
    """Send mutants through; those that fail are kept in a folder."""
    tally, child = Tally(Counter(), {}), Child()
    with tempfile.TemporaryDirectory() as folder:
        for name, data in islice(mutants(files, seed), mutants_wanted):
            path = Path(folder) / name
            path.write_bytes(data)
            began = time.monotonic()
            child = Child() if child.ended else child
            result, peak = child.run(str(path))
            tally.slowest_s = max(tally.slowest_s, time.monotonic() - began)
            tally.peak_mib = max(tally.peak_mib, peak)
            tally.outcomes[result] += 1
            if not result.startswith(("clips", "reject")):
                tally.failures[name] = result
                if keep is not None:
                    (keep / name).write_bytes(data)
            path.unlink()
        child.close()
    return tally


def main(arguments: Sequence[str] | None = None) -> Tally:
    """Run and print; returns the tally."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the test data")
    parser.add_argument("--mutants", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for mutants that fail")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        files = [*small_files(options.data), *generate(Path(folder))]
        tally = run(files, options.mutants, options.seed, options.keep)
    print(
        f"{platform.machine()}, PyAV {version('av')}: {options.mutants} mutants of {len(files)} "
        f"files; peak {tally.peak_mib:.0f} MiB, slowest {tally.slowest_s:.1f} s"
    )
    for result, number in tally.outcomes.most_common():
        print(f"{number:6} {result}")
    for name, result in tally.failures.items():
        print(f"{name}: {result}")
    return tally


if __name__ == "__main__":
    main()
