"""Decoding a stored clip to RGB: what exact colour costs, and what a pyramid stage saves.

    python benchmarks/clip_decode.py --data FOLDER [--rounds 9] [--json rows.json]

Clips are the first 17 frames of every video in FOLDER (or its subfolder `videos`) at 256x384,
stored at CRF 18 for the times and losslessly for the errors. The ways take turns, on one thread;
times are the processor's, which hold on a machine that does other things too.
"""

import argparse
import io
import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from fluxshard.demo.scenes import random_scene
from shards.clip_video import decode_clip, encode_clip

SIZE, FRAMES = (256, 384), 17
VIDEOS = {".avi", ".mkv", ".mov", ".mp4", ".ogv", ".webm"}
EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT

Clip = npt.NDArray[np.uint8]  # [t, 3, h, w] RGB
Decode = Callable[[bytes], Clip]


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """How one way fares: median time for a clip, and error of a lossless clip in grey levels."""

    form: str
    clip_ms: float
    to_ours: float
    bias: tuple[float, float, float]
    rms: float


def frames_of(data: bytes) -> Iterator[av.VideoFrame]:
    with av.open(io.BytesIO(data), "r") as container:
        container.streams.video[0].codec_context.thread_count = 1
        yield from container.decode(video=0)


def stacked(pictures: Sequence[npt.NDArray[Any]]) -> Clip:
    return np.stack(pictures).transpose(0, 3, 1, 2)


def to_packed(data: bytes, interpolation: Interpolation | None) -> Clip:
    """One reformatter for the clip, to packed RGB."""
    reformatter = VideoReformatter()
    pictures = [
        reformatter.reformat(
            frame,
            format="rgb24",
            src_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.MPEG,
            interpolation=None if interpolation is None else int(interpolation),
        ).to_ndarray()
        for frame in frames_of(data)
    ]
    return stacked(pictures)


def to_ndarray(data: bytes) -> Clip:
    """As in PyAV's manual; it takes the matrix from the stream and a reformatter per frame."""
    pictures: list[npt.NDArray[Any]] = [
        frame.to_ndarray(format="rgb24") for frame in frames_of(data)
    ]
    return np.stack(pictures).transpose(0, 3, 1, 2)


FORMS: dict[str, Decode] = {
    "decode_clip": decode_clip,
    "decode_clip, half rate": partial(decode_clip, stride=2),
    "decode_clip, quarter rate": partial(decode_clip, stride=4),
    "packed RGB, truncated": lambda data: to_packed(data, None),
    "packed RGB, exact": lambda data: to_packed(data, EXACT),
    "PyAV to_ndarray": to_ndarray,
}


def difference(decoded: Clip, clip: Clip) -> npt.NDArray[np.float32]:
    """Error of the frames that came out, evenly spread over the clip."""
    shown = clip[:: (len(clip) - 1) // (len(decoded) - 1)]
    return decoded.astype(np.float32) - shown


def measure(clips: Sequence[Clip], rounds: int) -> list[Row]:
    """One row for each way."""
    stored = [encode_clip(clip, Fraction(12)) for clip in clips]
    lossless = [encode_clip(clip, Fraction(12), crf=0) for clip in clips]
    times: dict[str, list[float]] = {form: [] for form in FORMS}
    for _ in range(rounds):
        for data in stored:
            for form, decode in FORMS.items():
                start = time.process_time()
                decode(data)
                times[form].append(1000 * (time.process_time() - start))
    medians = {form: float(np.median(values)) for form, values in times.items()}
    rows = []
    for form, decode in FORMS.items():
        errors = [difference(decode(d), c) for d, c in zip(lossless, clips, strict=True)]
        red, green, blue = np.mean([error.mean((0, 2, 3)) for error in errors], 0).tolist()
        rows.append(
            Row(
                form=form,
                clip_ms=medians[form],
                to_ours=medians[form] / medians["decode_clip"],
                bias=(red, green, blue),
                rms=float(np.sqrt(np.mean([np.square(error).mean() for error in errors]))),
            )
        )
    return rows


def read_clips(folder: Path) -> Iterator[Clip]:
    """The first frames of every video long enough."""
    videos = folder / "videos" if (folder / "videos").is_dir() else folder
    for path in sorted(path for path in videos.iterdir() if path.suffix in VIDEOS):
        pictures: list[npt.NDArray[np.uint8]] = []
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                picture = cv2.resize(frame.to_ndarray(format="rgb24"), SIZE[::-1])
                pictures.append(picture.astype(np.uint8))
                if len(pictures) == FRAMES:
                    yield np.stack(pictures).transpose(0, 3, 1, 2)
                    break


def show(rows: Sequence[Row], clips: int) -> None:
    """Print the table."""
    facts = [platform.processor() or platform.machine(), *(f"{x} {version(x)}" for x in ("av",))]
    print(f"{', '.join(facts)}, FFmpeg avcodec {av.library_versions['libavcodec']}, one thread")
    print(f"{clips} clips\n")
    print("form                      ms per clip to ours   bias R / G / B         rms")
    for row in rows:
        bias = " / ".join(f"{value:+.2f}" for value in row.bias)
        print(f"{row.form:25} {row.clip_ms:9.2f} {row.to_ours:9.2f}   {bias} {row.rms:7.2f}")


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Run the benchmark; without --data on a synthetic scene."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder with videos; default a synthetic scene")
    parser.add_argument("--json", type=Path, help="also write the rows")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args(arguments)
    scene = random_scene(0, (64, 96))
    clips = list(read_clips(options.data)) if options.data else [scene.clip(range(5))]
    if not clips:
        raise SystemExit(f"no videos in {options.data}; give --data a folder that holds some")
    rows = measure(clips, options.rounds)
    show(rows, len(clips))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))
    return rows


if __name__ == "__main__":
    main()
