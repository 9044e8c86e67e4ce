"""A worker's peak memory on a film of half an hour against ten seconds of it; the scan's speed.

    python benchmarks/memory.py [--data FOLDER] [--seconds 1800] [--rounds 5] [--json figures.json]

The film is made up: 1920x1080 H.264 at 30 frames a second, ten seconds of it encoded, whose packets
are repeated under rising times. Every job runs in a process of its own: the scan, the build of a
shard with DIS flow of clips from all over the film, and a bare decode. Speeds are those of the
scan and of the bare loop in turns, on one thread, the film in the page cache.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np

FPS, GIVEN_S, CLIPS = 30, 10, 16

# Peak memory is that of a whole process, so every job runs in one that does nothing else.
_JOB = """
import json, pickle, sys, time
import av
from pipeline import BuildConfig, Source, flow_specs
from pipeline.building.shard import ShardTask
from pipeline.planning.clip_table import clip_table
from pipeline.planning.scan import scan_video
from shards import Store

def scan(film, folder, clips):
    video, found = scan_video(Source(path=film), config.clip_rule, detector=config.shots)
    chosen = [found[n * (len(found) - 1) // (clips - 1)] for n in range(clips)]
    pickle.dump(chosen, open(f"{folder}/clips", "wb"))
    return video.frames

def build(film, folder, clips):
    rows = clip_table(pickle.load(open(f"{folder}/clips", "rb")), clips)
    store, specs = Store(f"{folder}/dataset"), flow_specs(config)
    ShardTask(store=store, shard=0, rows=rows, specs=specs, crf=config.crf).run()
    return sum(len(pts) for pts in rows["pts"].to_pylist())

def decode(film, *_):
    with av.open(film) as container:
        container.streams.video[0].codec_context.thread_count = 1
        return sum(1 for _ in container.decode(video=0))

def peak():  # ru_maxrss would remember the process that started this one
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024

config = BuildConfig(flow="dis", size=(256, 384))
job, film, folder, clips, warm = sys.argv[1:]
if warm:
    locals()[job](warm, folder, int(clips))  # what is loaded on first use is not the film's
began = time.perf_counter()
frames = locals()[job](film, folder, int(clips))
seconds = time.perf_counter() - began
print(json.dumps({"frames": frames, "frames_per_s": frames / seconds, "peak_MiB": peak()}))
"""


def write_film(path: Path, seconds: int, size: tuple[int, int]) -> None:
    """Ten seconds of a texture that moves under grain, again and again."""
    once = path.with_name("once.mp4")
    if not once.exists():
        _encode(once, size)
    with av.open(str(once)) as source, av.open(str(path), "w") as target:
        given = source.streams.video[0]
        stream = target.add_stream_from_template(given)
        packets = [packet for packet in source.demux(given) if packet.size]
        data = [(bytes(p), p.pts, p.dts, p.is_keyframe, p.duration) for p in packets]
        length = round(GIVEN_S / given.time_base)
        for turn in range(seconds // GIVEN_S):
            for payload, pts, dts, key, duration in data:
                packet = av.Packet(payload)
                packet.stream, packet.is_keyframe, packet.time_base = stream, key, given.time_base
                packet.pts, packet.dts = pts + turn * length, dts + turn * length
                packet.duration = duration
                target.mux(packet)


def _encode(path: Path, size: tuple[int, int]) -> None:
    height, width = size
    random = np.random.default_rng(0)
    texture = np.kron(random.integers(40, 216, (40, 60, 3)), np.ones((48, 48, 1))).astype(np.int16)
    noise = random.integers(-10, 11, texture.shape, np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=FPS, options={"preset": "veryfast", "b": "8M"}
        )
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for n in range(FPS * GIVEN_S):
            seen = texture[n % 500 :][:height, 2 * n % 900 :][:, :width]
            grain = noise[7 * n % 500 :][:height, 11 * n % 900 :][:, :width]
            picture = (seen + grain).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def run_job(job: str, film: Path | str, folder: Path, warm: str = "") -> dict[str, Any]:
    """What a process of its own tells of a job."""
    command = [sys.executable, "-c", _JOB, job, str(film), str(folder), str(CLIPS), warm]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment)
    return json.loads(done.stdout)


def speeds(film: Path | str, folder: Path, rounds: int) -> tuple[float, float]:
    """Frames a second of the scan and of the bare loop, medians."""
    warm = str(film)
    pairs = [
        [run_job(job, film, folder, warm) for job in ("scan", "decode")] for _ in range(rounds)
    ]
    scan, bare = ([run["frames_per_s"] for run in runs] for runs in zip(*pairs, strict=True))
    return median(scan), median(bare)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure and print; returns the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="not used; films are made up")
    parser.add_argument("--seconds", type=int, default=1800, help="length of the film")
    parser.add_argument("--height", type=int, default=1080, help="of its pictures")
    parser.add_argument("--rounds", type=int, default=5, help="of the comparison of speeds")
    parser.add_argument("--json", help="file for the figures")
    options = parser.parse_args(arguments)
    size = options.height, options.height * 16 // 9 // 2 * 2
    figures: dict[str, Any] = {"peak_MiB": {}}
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}, PyAV {version('av')}, {size[1]}x{size[0]}"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        films = {seconds: folder / f"{seconds}.mp4" for seconds in (GIVEN_S, options.seconds)}
        for seconds, film in films.items():
            write_film(film, seconds, size)
        for seconds, film in films.items():
            for job in ("scan", "build"):  # of what was scanned
                peak = run_job(job, film, folder)["peak_MiB"]
                figures["peak_MiB"].setdefault(job, {})[seconds] = peak
                print(f"{job:6} {seconds:5} s: {peak:6.0f} MiB at its peak", flush=True)
        figures["scan"], figures["bare"] = speeds(films[GIVEN_S], folder, options.rounds)
    print(
        f"scan {figures['scan']:.0f} frames/s, bare decode {figures['bare']:.0f}: "
        f"{figures['scan'] / figures['bare']:.2f}"
    )
    if options.json:
        Path(options.json).write_text(json.dumps(figures))
    return figures


if __name__ == "__main__":
    main()
