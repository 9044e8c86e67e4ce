"""What a build is compared with: bare loops of estimator calls, and video2dataset."""

import json
import resource
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import zstandard
from torch.nn import functional

from flow_cache import Pair, level_pairs, load_estimator
from flow_cache.coding.scales import clip_to_range, pack_scales
from pipeline.building.shard import settle_worker
from shards import Clip, encode_clip

SIZE, FRAMES, LEVELS = (256, 384), 17, (1, 2, 4)
Figures = dict[str, Any]

# Runs in the peer's environment: one argument, the folder with its shards.
_PEER = """
import json, resource, sys, time
from pathlib import Path
from video2dataset import video2dataset
folder = Path(sys.argv[1])
config = {
    "subsampling": {"OpticalFlowSubsampler": {
        "args": {"detector": "cv2", "detector_args": None, "dtype": "fp16"}}},
    "reading": {"dataloader_args": {"resize_size": 256, "decoder_kwargs": {
        "n_frames": None, "fps": None, "num_threads": 8, "return_bytes": True}},
        "timeout": 60, "sampler": None},
    "storage": {"number_sample_per_shard": 1000, "oom_shard_count": 6,
                "captions_are_subtitles": False},
    "distribution": {"processes_count": 2, "thread_count": 1, "subjob_size": 1000,
                     "distributor": "multiprocessing"},
}
if __name__ == "__main__":
    video2dataset(url_list=str(folder / "in" / "{000000..000001}.tar"),
                  output_folder=str(folder / "out"), input_format="webdataset",
                  output_format="webdataset", stage="optical_flow",
                  encode_formats={"optical_flow": "npy"}, config=config)
"""


def peak_mib() -> float:
    """Of this process; ru_maxrss would remember the one that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


def frames_of(clip: Clip) -> Iterator[np.ndarray]:
    """BGR frames of a clip in order, resized; a plain loop over the file."""
    capture = cv2.VideoCapture(clip.path)
    wanted = set(clip.numbers)
    for number in range(clip.numbers[-1] + 1):
        if number in wanted:
            picture = capture.read()[1]
            yield cv2.resize(picture, SIZE[::-1], interpolation=cv2.INTER_AREA)
        else:
            capture.grab()


class Clock:
    """Adds up seconds, of the clock and of the processor, of what runs under it."""

    def __init__(self) -> None:
        self.seconds = self.cpu = 0.0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.seconds += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu


def bare(clips: Sequence[Clip], flow: str, *, floor: bool = False) -> Figures:
    """The estimator on every pair of the clips, one thread, nothing else.

    Or, for the floor, also what no build can leave out, each as its library alone does it: x264,
    and for every field one bilinear sampling and zstd.
    """
    settle_worker()
    clock, count = Clock(), 0
    for clip in clips:
        pairs = level_pairs(len(clip.numbers), LEVELS, ("forward", "backward"))
        with clock():
            pictures = list(frames_of(clip))
            fields = (bare_dis if flow == "dis" else bare_clip)(pictures, pairs, flow)
        count += len(pairs)
        if floor:
            rgb = np.ascontiguousarray(np.stack(pictures)[..., ::-1].transpose(0, 3, 1, 2))
            with clock():
                encode_clip(rgb, clip.fps)
            for field in fields:
                store(field, clock)
    return {"pairs": count, "seconds": clock.seconds, "cpu": clock.cpu, "peak_MiB": peak_mib()}


def store(field: np.ndarray, clock: Clock) -> None:
    """Sample one field of flow [2, h, w] at an identity, and compress its codes."""
    codes = pack_scales(clip_to_range(field, 1 / 2)[0])
    image = torch.from_numpy(field)[None]
    grid = functional.affine_grid(torch.eye(2, 3)[None], [1, 2, *SIZE], align_corners=True)
    with clock():
        functional.grid_sample(image, grid, padding_mode="border", align_corners=True)
        for part in codes:
            zstandard.ZstdCompressor(level=9).compress(part)


def bare_dis(pictures: Sequence[np.ndarray], pairs: Sequence[Pair], _: str) -> Sequence[np.ndarray]:
    grey = [cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) for picture in pictures]
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    fields = [dis.calc(grey[i], grey[j], None) for i, j in pairs]  # type: ignore[call-overload]
    return [field.transpose(2, 0, 1) for field in fields]


def bare_clip(
    pictures: Sequence[np.ndarray], pairs: Sequence[Pair], flow: str
) -> Sequence[np.ndarray]:
    frames = torch.from_numpy(np.stack(pictures)).flip(-1).permute(0, 3, 1, 2).contiguous()
    return list(load_estimator(flow).clip(frames, pairs)[0].numpy())


def peer(python: str, clips: Path, folder: Path) -> Figures:
    """video2dataset on the clips of a dataset, half of them in each of two shards."""
    import webdataset

    (folder / "in").mkdir()
    tars = [webdataset.TarWriter(str(folder / "in" / f"00000{n}.tar")) for n in range(2)]
    samples = list(webdataset.WebDataset(str(clips), shardshuffle=False))
    for number, sample in enumerate(samples):
        notes = {"key": sample["__key__"], "status": "success", "error_message": None}
        wanted = {"__key__": sample["__key__"], "mp4": sample["mp4"], "json": notes}
        tars[2 * number // len(samples)].write(wanted)
    for tar in tars:
        tar.close()
    script = folder / "peer.py"
    script.write_text(_PEER)
    subprocess.run([python, str(script), str(folder)], check=True, stdout=subprocess.DEVNULL)
    stats = [json.loads(path.read_text()) for path in folder.glob("out/*_stats.json")]
    made = sum(row["successes"] for row in stats)
    assert made == len(samples), f"{made} of {len(samples)} clips came through"
    pairs = made * (FRAMES - 1)
    return {
        "pairs": pairs,
        "seconds": max(r["end_time"] for r in stats) - min(r["start_time"] for r in stats),
        "bytes": sum(path.stat().st_size for path in folder.glob("out/*.tar")) / pairs,
        "peak_MiB": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }
