"""Ways to store flow: bytes, time and error on real fields.

    python benchmarks/flow_codec.py --data FOLDER [--json rows.json]

FOLDER (or its subfolder `videos`) holds videos. The fields are `variational` at 256x384, forward
and backward between frames 1 and 4 apart. Times are processor time on one core, medians over rounds
in which all forms take turns, so that a busy machine slows all alike. Forms whose library is
missing are left out (`pip install imagecodecs` brings most).
"""

import argparse
import importlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
import torch
import zstandard

from flow_cache import load_estimator
from flow_cache.coding.codec import decode_field, encode_field
from flow_cache.coding.residual import pack, predict, unpack
from fluxshard.demo.scenes import random_scene

Flow = npt.NDArray[np.float32]  # [2, h, w], pixels
Shape = tuple[int, ...]

MAX_ERROR_PX = 1 / 8  # of most fields of a default layer; others are held to 1/4 or 1/2
STEP_PX = 2 * MAX_ERROR_PX
SIZE = (256, 384)
FIRST, STRIDES = 8, (1, 4)  # which frames of a video the fields lie between
VIDEOS = {".avi", ".mkv", ".mov", ".mp4", ".ogv", ".webm"}


@dataclass(frozen=True, kw_only=True)
class Form:
    """A way to store a field; `decode` is told the field's shape and gives float32 pixels."""

    name: str
    encode: Callable[[Flow], bytes]
    decode: Callable[[bytes, Shape], Flow]


@dataclass(frozen=True, kw_only=True)
class Row:
    """What one form costs: means over all fields, medians over all rounds."""

    form: str
    kib: float
    smaller_than_fp16: float
    encode_ms: float
    decode_ms: float
    decode_to_fp16: float  # decoding time over that of raw halves
    max_error_px: float
    mean_error_px: float


def to_halves(flow: Flow) -> bytes:
    return flow.astype(np.float16).tobytes()


def from_halves(data: bytes, shape: Shape) -> Flow:
    return np.frombuffer(data, np.float16).astype(np.float32).reshape(shape)


def to_ours(flow: Flow) -> bytes:
    seen = np.ones(flow.shape[1:], bool)
    return encode_field(flow, seen, pair=(0, 1), max_error_px=MAX_ERROR_PX, spec_digest="0" * 64)


def to_first_layout(flow: Flow) -> bytes:
    """Pixels predicted from their neighbours, as a default layer was before there were scales."""
    codes, escapes = pack(predict(np.rint(flow * 16).astype(np.int16)))
    return zstandard.compress(codes.tobytes(), 9) + zstandard.compress(escapes.tobytes(), 9)


def from_first_layout(data: bytes, shape: Shape) -> Flow:
    reader = zstandard.ZstdDecompressor().decompressobj()
    codes = np.frombuffer(reader.decompress(data), np.uint8)
    escapes = np.frombuffer(zstandard.decompress(reader.unused_data), np.uint8)
    return unpack(codes[None], [escapes], (shape[1], shape[2]))[0] * np.float32(1 / 16)


def to_kitti(flow: Flow) -> bytes:
    """16-bit PNG in steps of 1/64 px, third channel 1 = valid; OpenCV wants it as B, G, R."""
    steps = np.rint(flow * 64 + 2**15).clip(0, 2**16 - 1).astype(np.uint16)
    picture = np.dstack((np.ones_like(steps[0]), steps[1], steps[0]))
    return cv2.imencode(".png", picture)[1].tobytes()


def from_kitti(data: bytes, _: Shape) -> Flow:
    """As RAFT's `readFlowKITTI` does it."""
    picture: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    flow = picture[:, :, ::-1].astype(np.float32)[:, :, :2]
    return ((flow - 2**15) / 64.0).transpose(2, 0, 1)


def to_denseflow(flow: Flow) -> bytes:
    """Clipped to 20 px and to 8 bits, as a grey JPEG (denseflow stores one a component)."""
    grey = np.rint((flow.clip(-20, 20) + 20) * (255 / 40)).astype(np.uint8)
    return cv2.imencode(".jpg", np.vstack(list(grey)), [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def from_denseflow(data: bytes, shape: Shape) -> Flow:
    grey: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    return (grey.astype(np.float32) * np.float32(40 / 255) - 20).reshape(shape)


def to_steps(flow: Flow, bits: int = 16) -> npt.NDArray[np.uint16]:
    """Both components in steps about the middle of the range, [2 h, w], for lossless codecs."""
    middle = 2 ** (bits - 1)
    return np.vstack((np.rint(flow / STEP_PX) + middle).clip(0, 2 * middle - 1)).astype(np.uint16)


def from_steps(steps: npt.NDArray[np.uint16], shape: Shape, bits: int = 16) -> Flow:
    return (steps.reshape(shape).astype(np.float32) - 2 ** (bits - 1)) * np.float32(STEP_PX)


def to_hevc(flow: Flow) -> bytes:
    """One lossless 12-bit grey frame; clips beyond 128 px."""
    steps = to_steps(flow, 12)
    encoder: Any = av.CodecContext.create("libx265", "w")
    encoder.height, encoder.width = steps.shape
    encoder.pix_fmt, encoder.time_base = "gray12le", Fraction(1, 25)
    quiet = "lossless=1:log-level=none:frame-threads=1:pools=none"
    encoder.options = {"preset": "medium", "x265-params": quiet}
    packets = [*encoder.encode(av.VideoFrame.from_ndarray(steps, "gray12le")), *encoder.encode()]
    return b"".join(bytes(packet) for packet in packets)


def from_hevc(data: bytes, shape: Shape) -> Flow:
    decoder: Any = av.CodecContext.create("hevc", "r")
    decoder.thread_count = 1
    frames = [*decoder.decode(av.Packet(data)), *decoder.decode()]
    return from_steps(frames[0].to_ndarray(), shape, 12)


def imagecodecs_forms() -> Iterator[Form]:
    """A lossless codec of pictures, on the same steps."""
    try:
        codecs: Any = importlib.import_module("imagecodecs")
    except ImportError:
        return

    if codecs.JPEGLS.available:
        yield Form(
            name="JPEG-LS",
            encode=lambda flow: codecs.jpegls_encode(to_steps(flow)),
            decode=lambda data, shape: from_steps(codecs.jpegls_decode(data), shape),
        )


def forms() -> list[Form]:
    """All forms that run here; raw halves first, for the others are measured by them."""
    listed = [
        Form(name="raw fp16", encode=to_halves, decode=from_halves),
        Form(name="ours", encode=to_ours, decode=lambda data, _: decode_field(data).flow.numpy()),
        Form(name="first layout, 1/32 px", encode=to_first_layout, decode=from_first_layout),
        Form(
            name="fp16 + zstd-3",
            encode=lambda flow: zstandard.compress(to_halves(flow), 3),
            decode=lambda data, shape: from_halves(zstandard.decompress(data), shape),
        ),
        Form(name="KITTI PNG, 1/64 px", encode=to_kitti, decode=from_kitti),
        Form(name="JPEG q95, 20 px clip", encode=to_denseflow, decode=from_denseflow),
        *imagecodecs_forms(),
    ]
    if "libx265" in av.codecs_available:
        listed.append(Form(name="HEVC lossless, 12 bit", encode=to_hevc, decode=from_hevc))
    return listed


def measure(listed: Sequence[Form], fields: Sequence[Flow], rounds: int) -> list[Row]:
    """One row for each form over the same fields; the first form is the one to compare with."""
    stored = [[form.encode(field) for field in fields] for form in listed]
    seconds = np.empty((2, len(listed), rounds))  # decoding and encoding a field
    few = fields[:4]  # encoders are slow, and steady
    for turn in range(rounds):
        for number, form in enumerate(listed):
            start = time.process_time()
            for data, field in zip(stored[number], fields, strict=True):
                form.decode(data, field.shape)
            middle = time.process_time()
            for field in few:
                form.encode(field)
            end = time.process_time()
            seconds[:, number, turn] = (middle - start) / len(fields), (end - middle) / len(few)
    decoding, encoding = np.median(seconds, axis=2) * 1e3
    relative = np.median(seconds[0] / seconds[0, 0], axis=1)
    return [
        Row(
            form=form.name,
            encode_ms=encoding[number],
            decode_ms=decoding[number],
            decode_to_fp16=relative[number],
            **losses(form, stored[number], fields),
        )
        for number, form in enumerate(listed)
    ]


def losses(form: Form, stored: Sequence[bytes], fields: Sequence[Flow]) -> dict[str, float]:
    """Bytes and errors of a form."""
    errors = [
        form.decode(data, field.shape).astype(np.float64) - field
        for data, field in zip(stored, fields, strict=True)
    ]
    total = sum(map(len, stored))
    return {
        "kib": total / len(fields) / 1024,
        "smaller_than_fp16": sum(2 * field.size for field in fields) / total,
        "max_error_px": max(float(np.abs(error).max()) for error in errors),
        "mean_error_px": float(np.mean([error.mean() for error in errors])),
    }


def real_fields(folder: Path) -> list[Flow]:
    """Flow of every video that has enough frames."""
    last = FIRST + max(STRIDES)
    fields: list[Flow] = []
    videos = folder / "videos" if (folder / "videos").is_dir() else folder
    for path in sorted(path for path in videos.iterdir() if path.suffix in VIDEOS):
        pictures = []
        with av.open(str(path)) as container:
            for number, frame in enumerate(container.decode(video=0)):
                if number >= FIRST:
                    picture = frame.to_ndarray(format="rgb24")
                    pictures.append(cv2.resize(picture, SIZE[::-1], interpolation=cv2.INTER_AREA))
                if number == last:
                    break
        if len(pictures) == last - FIRST + 1 and np.ptp(pictures[0]) > 0:
            fields += estimated(np.stack(pictures).transpose(0, 3, 1, 2))
    if not fields:
        raise SystemExit(f"no videos in {videos}; give --data a folder that holds some")
    return fields


def estimated(frames: npt.NDArray[Any]) -> list[Flow]:
    """Flow between the first of frames uint8 [t, 3, h, w] and those a stride away."""
    pairs = [pair for stride in STRIDES for pair in ((0, stride), (stride, 0))]
    flow, _ = load_estimator("variational").clip(torch.from_numpy(frames.copy()), pairs)
    return list(flow.numpy())


def machine() -> dict[str, str]:
    """What the figures depend on besides the code."""
    cpu = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.partition(": ")[2] for line in lines if "model name" in line), cpu)
    libraries = ("numpy", "opencv-python-headless", "zstandard", "torch", "av")
    facts = {"cpu": cpu, "cores": str(os.cpu_count()), "python": platform.python_version()}
    return facts | {name: version(name) for name in libraries}


def show(rows: Sequence[Row], fields: int) -> None:
    """Print the table."""
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    print(f"{fields} fields, maximum error {MAX_ERROR_PX} px where a form can keep one, one core\n")
    print(f"{'form':24}   KiB   smaller   encode ms   decode ms   to fp16   max error  mean error")
    for row in rows:
        print(
            f"{row.form:24} {row.kib:5.1f} {row.smaller_than_fp16:8.1f}x {row.encode_ms:11.2f}"
            f" {row.decode_ms:11.3f} {row.decode_to_fp16:8.2f}x {row.max_error_px:11.4f}"
            f" {row.mean_error_px:+11.6f}"
        )


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Run the benchmark; without --data on a synthetic scene."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with videos; default a synthetic scene")
    parser.add_argument("--json", type=Path, help="also write the rows and the machine's facts")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    scene = random_scene(0, (64, 96))
    fields = real_fields(options.data) if options.data else estimated(scene.clip(range(5)))
    rows = measure(forms(), fields, options.rounds)
    show(rows, len(fields))
    if options.json:
        report = {"machine": machine(), "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(report, indent=2))
    return rows


if __name__ == "__main__":
    main()
