"""Our frames of real videos against those of the ffmpeg program: times, size, turn, colours.

    python benchmarks/ffmpeg_agreement.py --data FOLDER [--frames 20] [--json rows.json]

Takes `ffmpeg` from the path, else the package imageio-ffmpeg. Both convert to RGB with the same
scaler flags, as displayed: once at the stored size, once scaled and cropped to 256x384. The matrix
is told to ffmpeg where a video has none, as ffmpeg takes BT.601 for any size then.
"""

import argparse
import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Colorspace

from pipeline.source.decoder import Decoder
from pipeline.source.rgb import Picture, cover_size, matrix_of, orientation

CLIP = (256, 384)
VIDEOS = {".avi", ".mkv", ".mov", ".mp4", ".ogv", ".webm"}
FLAGS = "bicubic+accurate_rnd+full_chroma_int+bitexact"
MATRICES = {Colorspace.ITU709: "bt709", Colorspace.ITU601: "bt601"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """How far one video agrees.

    Attributes:
        frames, theirs: decoded by us and by ffmpeg.
        times: all of them are equal, or ours have none or are out of order as they are read.
        bias, error: mean and mean absolute difference at the stored size, in levels.
        clip_bias, clip_error: of clip pictures.
    """

    name: str
    frames: int
    theirs: int
    times: bool
    bias: float
    error: float
    clip_bias: float
    clip_error: float

    @property
    def agrees(self) -> bool:
        """By the limits that we set ourselves."""
        biases, errors = (self.bias, self.clip_bias), (self.error, self.clip_error)
        same = self.times and self.frames == self.theirs
        return same and max(map(abs, biases)) < 0.5 and max(errors) < 2


def find_ffmpeg() -> str | None:
    """Path of the program, if there is one."""
    if found := shutil.which("ffmpeg"):
        return found
    try:
        import imageio_ffmpeg
    except ImportError:
        return None
    return imageio_ffmpeg.get_ffmpeg_exe()


def their_times(program: str, path: Path) -> list[Fraction]:
    """Seconds of every frame."""
    wanted = ["-fps_mode", "passthrough", "-copyts", "-enc_time_base", "demux"]
    lines = _run(program, path, [*wanted, "-vf", "scale=16:16", "-f", "framecrc"]).decode()
    base = next(line for line in lines.splitlines() if line.startswith("#tb 0:"))
    rows = [line.split(",") for line in lines.splitlines() if not line.startswith("#")]
    return [int(row[2]) * Fraction(base.partition(":")[2].strip()) for row in rows]


def their_pictures(
    program: str, path: Path, frames: int, chain: str, size: tuple[int, ...]
) -> np.ndarray:
    """uint8 [t, h, w, 3]; ValueError if theirs are of another size."""
    wanted = ["-fps_mode", "passthrough", "-frames:v", str(frames), "-vf", f"{chain},format=rgb24"]
    data = np.frombuffer(_run(program, path, [*wanted, "-f", "rawvideo"]), np.uint8)
    return data.reshape(-1, *size, 3)


def _run(program: str, path: Path, wanted: Sequence[str]) -> bytes:
    given = [program, "-v", "error", "-nostdin", "-threads", "1", "-i", str(path), "-map", "0:V:0"]
    return subprocess.run([*given, *wanted, "-"], stdout=subprocess.PIPE, check=True).stdout


def decoded(path: Path) -> Iterator[av.VideoFrame]:
    """All frames."""
    with Decoder(str(path)) as decoder:
        yield from decoder.frames()


def turned(frame: av.VideoFrame, stored: np.ndarray) -> np.ndarray:
    """An array [h, w] of the stored pixels as they are displayed."""
    turns, mirrored = orientation(frame)
    return np.rot90(stored[:, ::-1] if mirrored else stored, turns)


def clip_chain(frame: av.VideoFrame, aspect: Fraction, options: str) -> str:
    """ffmpeg's filters for a clip's picture: scaled to cover it, and cropped where ours is."""
    height, width = CLIP if orientation(frame)[0] % 2 == 0 else CLIP[::-1]
    covered = cover_size((frame.height, frame.width), aspect, (height, width))
    top, left = (covered[0] - height) // 2, (covered[1] - width) // 2
    pixels = np.arange(covered[0] * covered[1]).reshape(covered)
    corner = turned(frame, pixels[top : top + height, left : left + width])[0, 0]
    shown = turned(frame, pixels)
    y, x = np.argwhere(shown == corner)[0]
    scale = f"scale={shown.shape[1]}:{shown.shape[0]}:{options}"
    return f"{scale},format=rgb24,crop={CLIP[1]}:{CLIP[0]}:{x}:{y}"


def compare(program: str, path: Path, frames: int) -> Row:
    """One video; pictures of its first frames."""
    with Decoder(str(path)) as decoder:
        base, aspect = decoder.time_base, decoder.sample_aspect
        ours = [frame.pts for frame in decoder.frames()]
    theirs = their_times(program, path)
    first = next(decoded(path))
    matrix = MATRICES.get(matrix_of(first), "auto") if first.colorspace == 2 else "auto"
    options = f"flags={FLAGS}:in_color_matrix={matrix}:out_range=full"
    shown = turned(first, np.empty((first.height, first.width))).shape
    whole = f"scale={shown[1]}:{shown[0]}:{options}"
    clip = clip_chain(first, aspect, options)
    figures = []
    for chain, size, own_aspect in ((whole, shown, Fraction(1)), (clip, CLIP, aspect)):
        picture = Picture(size, own_aspect)
        mine = np.stack([picture(frame) for frame in islice(decoded(path), frames)])
        other = their_pictures(program, path, frames, chain, size).transpose(0, 3, 1, 2)
        difference = mine.astype(np.int16) - other
        figures += [float(difference.mean()), float(np.abs(difference).mean())]
    sortable = sorted(pts * base for pts in ours if pts is not None)
    times = sortable == sorted(theirs) or len(sortable) < len(ours)
    return Row(
        **dict(zip(("bias", "error", "clip_bias", "clip_error"), figures, strict=True)),
        name=path.name,
        frames=len(ours),
        theirs=len(theirs),
        times=times,
    )


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Compare and print; returns the rows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the test data")
    parser.add_argument("--frames", type=int, default=20, help="pictures compared of each video")
    parser.add_argument("--json", type=Path, help="file for the rows")
    options = parser.parse_args(arguments)
    program = find_ffmpeg()
    if program is None:
        raise SystemExit("no ffmpeg: install it, or `pip install imageio-ffmpeg`")
    text = subprocess.run([program, "-version"], stdout=subprocess.PIPE, check=True).stdout.decode()
    print(f"ours {av.ffmpeg_version_info}, theirs {text.split()[2]}")
    print(f"{'video':32} {'frames':>6} {'theirs':>6} times   bias  error   clip  error")
    rows = []
    for path in sorted((options.data / "videos").iterdir()):
        if path.suffix not in VIDEOS:
            continue
        row = compare(program, path, options.frames)
        rows.append(row)
        print(
            f"{row.name:32} {row.frames:6} {row.theirs:6} {row.times!s:5} {row.bias:6.2f} "
            f"{row.error:6.2f} {row.clip_bias:6.2f} {row.clip_error:6.2f}"
            f"{'' if row.agrees else '  <- disagrees'}",
            flush=True,
        )
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows]))
    return rows


if __name__ == "__main__":
    main()
