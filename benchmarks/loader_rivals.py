"""One rival of our stream, in its own environment: it writes its format, or reads batches of it.

    python loader_rivals.py write SYSTEM CLIPS OUT --flow {none,npy,png}
    python loader_rivals.py read SYSTEM OUT --workers N --batches N --warm N

Called by benchmarks/loader.py; it imports nothing of this project. CLIPS holds KEY.mp4, KEY.npy
(float16 [n, 2, h, w]) and KEY/NN.png (KITTI's 16 bits). All end in contiguous tensors on the CPU:
frames uint8 [b, t, 3, h, w] and flow float32 [b, n, 2, h, w], in batches of 8, without an end.
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from loader_measure import BATCH, Tensors, timed

SHUFFLE, SHARD_CLIPS = 64, 32
Sample = dict[str, bytes]
Decode = Callable[[bytes], torch.Tensor]


def frames_pyav(data: bytes) -> torch.Tensor:
    """As in PyAV's manual."""
    import av

    with av.open(io.BytesIO(data), "r") as container:
        container.streams.video[0].codec_context.thread_count = 1
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).contiguous()


def frames_torchcodec(data: bytes) -> torch.Tensor:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(data, num_ffmpeg_threads=1, seek_mode="approximate")
    return decoder.get_frames_in_range(0, len(decoder)).data.contiguous()


def frames_spdl(data: bytes) -> torch.Tensor:
    import spdl.io

    single = spdl.io.decode_config(decoder_options={"threads": "1"})
    frames = spdl.io.decode_packets(spdl.io.demux_video(data), decode_config=single)
    return spdl.io.to_torch(spdl.io.convert_frames(frames)).permute(0, 3, 1, 2).contiguous()


def flow_png(data: bytes) -> torch.Tensor:
    """KITTI's: valid, v, u in OpenCV's order."""
    import cv2

    stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert stored is not None
    vectors = np.ascontiguousarray(stored[..., :0:-1].transpose(2, 0, 1), np.float32)
    return torch.from_numpy((vectors - 32768) / 64)


def tensors(sample: Sample, frames: Decode) -> Tensors:
    """Frames, and flow where there is some: one array of halves, or a picture for each pair."""
    if "npy" in sample:
        flow = torch.from_numpy(np.load(io.BytesIO(sample["npy"]))).float()
        return frames(sample["mp4"]), flow
    if pictures := [sample[name] for name in sorted(sample) if name.endswith("png")]:
        return frames(sample["mp4"]), torch.stack([flow_png(picture) for picture in pictures])
    return (frames(sample["mp4"]),)


def plain(sample: dict[str, Any]) -> Sample:
    """LitData gives views, which torchcodec does not take."""
    return {name: bytes(data) for name, data in sample.items()}


def collate(samples: Iterable[Tensors]) -> Tensors:
    return tuple(map(torch.stack, zip(*samples, strict=True)))


def clips(folder: Path, flow: str) -> Iterator[tuple[str, Sample]]:
    """Every clip with the flow that is asked for, as bytes."""
    for video in sorted(folder.glob("*.mp4")):
        sample = {"mp4": video.read_bytes()}
        if flow == "npy":
            sample["npy"] = video.with_suffix(".npy").read_bytes()
        if flow == "png":
            pictures = sorted(video.with_suffix("").glob("*.png"))
            sample |= {f"{picture.stem}.png": picture.read_bytes() for picture in pictures}
        yield video.stem, sample


# webdataset, and SPDL, which has no format of its own, on the same tars


def write_tars(source: Path, out: Path, flow: str) -> None:
    import webdataset

    pattern = f"{out}/%06d.tar"
    with webdataset.ShardWriter(pattern, maxcount=SHARD_CLIPS, mtime=0, encoder=False) as writer:
        for key, sample in clips(source, flow):
            writer.write({"__key__": key, **sample})


def members(sample: dict[str, Any]) -> Sample:
    """Without the entries that tell where a sample came from."""
    return {name: data for name, data in sample.items() if not name.startswith("__")}


def read_webdataset(out: Path, workers: int, frames: Decode) -> Iterable[Tensors]:
    import webdataset

    shards = sorted(map(str, out.glob("*.tar")))
    data = (
        webdataset.WebDataset(shards, resampled=True, shardshuffle=False)
        .shuffle(SHUFFLE)
        .map(lambda sample: tensors(members(sample), frames))
        .batched(BATCH, collation_fn=collate)
    )
    return webdataset.WebLoader(data, batch_size=None, num_workers=workers)


def read_spdl(out: Path, workers: int, frames: Decode) -> Iterable[Tensors]:
    """Threads alone: the ceiling of what threads do without order, shuffle or resume."""
    import webdataset
    from spdl.pipeline import PipelineBuilder

    shards = sorted(map(str, out.glob("*.tar")))
    source = webdataset.WebDataset(shards, resampled=True, shardshuffle=False)
    pipeline = (
        PipelineBuilder()
        .add_source(map(members, source))
        .pipe(lambda sample: tensors(sample, frames), concurrency=workers)
        .aggregate(BATCH)
        .pipe(collate)
        .add_sink(2)
        .build(num_threads=workers)
    )
    with pipeline.auto_stop():
        yield from pipeline


# Megatron-Energon


def write_energon(source: Path, out: Path, flow: str) -> None:
    """The same tars, indexed by its own command."""
    write_tars(source, out, flow)
    program = Path(sys.executable).with_name("energon")
    options = ["--non-interactive", "--split-ratio=1,0,0", "--sample-type=CrudeWebdataset"]
    subprocess.run([program, "prepare", *options, out], check=True, stdout=subprocess.DEVNULL)


def read_energon(out: Path, workers: int, frames: Decode) -> Iterable[Tensors]:
    from megatron import energon

    @energon.stateless
    def cook(sample: Any) -> Any:
        return sample

    class Encoder(energon.TaskEncoder):
        cookers = (energon.Cooker(cook),)
        decoder = None

        @energon.stateless
        def encode_sample(self, sample: Any) -> Any:
            return tensors(members(sample), frames)

        @energon.stateless
        def batch(self, samples: Any) -> Any:
            return collate(samples)

    data = energon.get_train_dataset(
        str(out),
        batch_size=BATCH,
        shuffle_buffer_size=SHUFFLE,
        max_samples_per_sequence=100,
        worker_config=energon.WorkerConfig(rank=0, world_size=1, num_workers=workers),
        task_encoder=Encoder(),
    )
    return iter(energon.get_savable_loader(data))


# LitData


def _same(item: tuple[str, Sample]) -> Sample:
    return item[1]


def write_litdata(source: Path, out: Path, flow: str) -> None:
    import litdata

    litdata.optimize(
        fn=_same,
        inputs=list(clips(source, flow)),
        output_dir=str(out),
        chunk_bytes="64MB",
        num_workers=1,
        verbose=False,
    )


def read_litdata(out: Path, workers: int, frames: Decode) -> Iterator[Tensors]:
    import litdata

    class Clips(litdata.StreamingDataset):
        def __getitem__(self, index: Any) -> Tensors:
            return tensors(plain(super().__getitem__(index)), frames)

    cache = None
    if os.environ.get("LITDATA_POSIX_FAST") == "0":  # it copies; not from an earlier run
        cache = f"{tempfile.gettempdir()}/loader-litdata"
        shutil.rmtree(cache, ignore_errors=True)
    data = Clips(str(out), cache_dir=cache, shuffle=True, drop_last=True)
    loader = litdata.StreamingDataLoader(
        data, batch_size=BATCH, num_workers=workers, collate_fn=collate, persistent_workers=True
    )
    while True:
        yield from loader


# Mosaic Streaming


def let_torchvision_load() -> None:
    """Mosaic imports it for nothing we use; PyPI's needs two operators that CPU torch lacks."""
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    KEPT.append(library)


KEPT: list[Any] = []  # a library that is collected takes its operators along


def write_mosaic(source: Path, out: Path, flow: str) -> None:
    let_torchvision_load()
    from streaming import MDSWriter

    _, first = next(clips(source, flow))
    with MDSWriter(out=str(out), columns=dict.fromkeys(first, "bytes")) as writer:
        for _, sample in clips(source, flow):
            writer.write(sample)


def read_mosaic(out: Path, workers: int, frames: Decode) -> Iterator[Tensors]:
    let_torchvision_load()
    from streaming import StreamingDataLoader, StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    clean_stale_shared_memory()

    class Clips(StreamingDataset):
        def __getitem__(self, index: Any) -> Tensors:
            return tensors(plain(super().__getitem__(index)), frames)

    data = Clips(local=str(out), shuffle=True, batch_size=BATCH)
    loader = StreamingDataLoader(
        data, batch_size=BATCH, num_workers=workers, collate_fn=collate, persistent_workers=True
    )
    while True:
        yield from loader


@dataclass(frozen=True, slots=True)
class System:
    """How a rival writes and reads, and its decoder."""

    write: Callable[[Path, Path, str], None]
    read: Callable[[Path, int, Decode], Iterable[Tensors]]
    frames: Decode


SYSTEMS = {
    "webdataset": System(write_tars, read_webdataset, frames_pyav),
    "webdataset-torchcodec": System(write_tars, read_webdataset, frames_torchcodec),
    "spdl": System(write_tars, read_spdl, frames_spdl),
    "energon": System(write_energon, read_energon, frames_pyav),
    "energon-torchcodec": System(write_energon, read_energon, frames_torchcodec),
    "litdata": System(write_litdata, read_litdata, frames_torchcodec),
    "mosaic": System(write_mosaic, read_mosaic, frames_torchcodec),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    write = commands.add_parser("write")
    read = commands.add_parser("read")
    for command in (write, read):
        command.add_argument("system", choices=SYSTEMS)
    write.add_argument("clips", type=Path)
    for command in (write, read):
        command.add_argument("out", type=Path)
    write.add_argument("--flow", choices=("none", "npy", "png"), default="none")
    for name in ("--workers", "--batches", "--warm"):
        read.add_argument(name, type=int, required=True)
    asked = parser.parse_args()
    system = SYSTEMS[asked.system]
    if asked.command == "write":
        asked.out.mkdir(parents=True)
        system.write(asked.clips, asked.out, asked.flow)
        return
    torch.set_num_threads(1)
    batches = system.read(asked.out, asked.workers, system.frames)
    print(json.dumps(timed(batches, asked.batches, asked.warm)), flush=True)
    os._exit(0)  # several of them hang in their clean-up


if __name__ == "__main__":
    main()
