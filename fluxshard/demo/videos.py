"""Videos to try everything on: real files of synthetic scenes whose motion is known exactly.

Each video shows one scene after another of `fluxshard.demo.scenes`; `fluxshard.demo.truth` tells
the flow of the clips that are built from them.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream

from fluxshard.demo.scenes import Scene, random_scene
from pipeline.planning.config import BuildConfig

DEMO_CONFIG = BuildConfig(
    size=(96, 128), frames=17, fps=Fraction(12), flow="variational,dis", clips_per_shard=4
)

_FPS = 24
_TICKS = 12000  # per second
_VARIABLE_STEPS = (300, 400, 500, 600, 700)  # ticks between frames: 40 down to 17 per second
_BT709 = 1  # in ITU-T H.273
_ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    "H.264": ("libx264", {"crf": "8", "preset": "fast"}),
    "HEVC": ("libx265", {"crf": "8", "preset": "fast", "x265-params": "log-level=none"}),
    "VP9": ("libvpx-vp9", {"crf": "8", "b": "0", "deadline": "good", "cpu-used": "5"}),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoVideo:
    """One video: what it shows and how it is stored.

    Attributes:
        name: of the file; the suffix decides the container.
        codec: `H.264`, `HEVC` or `VP9`.
        seeds: of the scenes, with hard cuts between them.
        caption: what a caption writer would say.
        size: (height, width) as shown.
        seconds: that each scene lasts.
        speed: of the fastest object, in pixels per 24th of a second; the camera moves half as fast.
        variable: frames come at uneven times, and show the scene at these.
        rotation: the stored picture must be turned by this many degrees counter-clockwise.
        keep: share of the file's bytes that are there.
        listed: in the manifest, with its caption; else a `.txt` beside the video has the caption.
    """

    name: str
    codec: str
    seeds: tuple[int, ...]
    caption: str
    size: tuple[int, int] = DEMO_CONFIG.size
    seconds: Fraction = Fraction(3)
    speed: float = 0.8
    variable: bool = False
    rotation: int = 0
    keep: float = 1.0
    listed: bool = False

    @property
    def scene_frames(self) -> int:
        """Frames in each scene."""
        return int(_FPS * self.seconds)

    @property
    def frames(self) -> int:
        return self.scene_frames * len(self.seeds)


# The sizes are such that scaling to DEMO_CONFIG.size and cropping at the centre round nothing.
VIDEOS = (
    DemoVideo(name="h264.mp4", codec="H.264", seeds=(1,), caption="Shapes drift over a pattern."),
    DemoVideo(
        name="hevc_double_size.mp4",
        codec="HEVC",
        seeds=(2,),
        caption="A slow pan behind moving shapes.",
        size=(192, 256),
        speed=1.6,
    ),
    DemoVideo(name="vp9.webm", codec="VP9", seeds=(3,), caption="Shapes cross each other."),
    DemoVideo(
        name="wide.mp4",
        codec="H.264",
        seeds=(4,),
        caption="A wide picture, to be cropped at both sides.",
        size=(144, 216),
        speed=1.5,
    ),
    DemoVideo(
        name="fast.webm",
        codec="VP9",
        seeds=(5,),
        caption="Shapes rush through the picture.",
        speed=2.0,
        listed=True,
    ),
    DemoVideo(
        name="slow.mp4",
        codec="HEVC",
        seeds=(6,),
        caption="Hardly anything moves.",
        speed=0.3,
        listed=True,
    ),
    DemoVideo(
        name="variable_rate.mp4",
        codec="H.264",
        seeds=(7,),
        caption="Frames at uneven times.",
        variable=True,
    ),
    DemoVideo(
        name="rotated.mp4",
        codec="H.264",
        seeds=(8,),
        caption="Upright, from a phone held sideways.",
        size=(160, 128),
        rotation=90,
    ),
    DemoVideo(
        name="cuts.mp4",
        codec="H.264",
        seeds=(9, 10, 11),
        caption="Three scenes with hard cuts between them.",
        seconds=Fraction(3, 2),
    ),
    DemoVideo(
        name="cut_off.webm", codec="VP9", seeds=(12,), caption="The end is missing.", keep=0.7
    ),
    DemoVideo(
        name="truncated.mp4", codec="H.264", seeds=(13,), caption="The index is missing.", keep=0.7
    ),
    DemoVideo(
        name="too_short.mp4",
        codec="H.264",
        seeds=(14,),
        caption="Over in a blink.",
        seconds=Fraction(1, 2),
    ),
)


def make_videos(folder: str | Path) -> list[str]:
    """Write all of `VIDEOS` and one file that is none to `folder`.

    Returns:
        What to build from, as for `find_sources`: a manifest with captions and a column `speed_px`
        for some of the videos, then the folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for video in VIDEOS:
        write_video(video, folder / video.name)
        if not video.listed:
            (folder / video.name).with_suffix(".txt").write_text(f"{video.caption}\n")
    (folder / "not_a_video.mp4").write_text("Somebody renamed a text file.\n" * 20)
    rows = [
        {"video": video.name, "caption": video.caption, "speed_px": video.speed}
        for video in VIDEOS
        if video.listed
    ]
    manifest = folder / "listed.jsonl"
    manifest.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return [str(manifest), str(folder)]


def write_video(video: DemoVideo, path: Path) -> None:
    """Render and encode one video; the same bytes every time."""
    encoder, options = _ENCODERS[video.codec]
    height, width = video.size if video.rotation % 180 == 0 else video.size[::-1]
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream = cast(VideoStream, container.add_stream(encoder, rate=_FPS))
        stream.options = {**options, "chroma_sample_location": "center"}  # where swscale puts it
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, _TICKS)
        context = stream.codec_context
        context.time_base, context.thread_count = Fraction(1, _TICKS), 1
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries = context.color_trc = _BT709
        if video.rotation:
            stream.set_display_rotation(video.rotation)
        for frame in _encodable(video):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    data = path.read_bytes()
    path.write_bytes(data[: round(video.keep * len(data))])


def _encodable(video: DemoVideo) -> Iterator[av.VideoFrame]:
    reformatter = VideoReformatter()
    for number, ticks in enumerate(frame_ticks(video)):
        scene, time = scene_at(video, number)
        stored = np.rot90(scene.frame(time), -video.rotation // 90)
        frame = reformatter.reformat(
            av.VideoFrame.from_ndarray(np.ascontiguousarray(stored), format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
        )
        frame.pts, frame.time_base = ticks, Fraction(1, _TICKS)
        yield frame


@cache
def frame_ticks(video: DemoVideo) -> tuple[int, ...]:
    """When each frame is shown, in 1/12000 of a second."""
    steps = [_TICKS // _FPS] * video.frames
    if video.variable:
        steps = np.random.default_rng(video.seeds).choice(_VARIABLE_STEPS, video.frames).tolist()
    return tuple(int(tick) for tick in np.cumsum([0, *steps[:-1]]))


def scene_at(video: DemoVideo, number: int) -> tuple[Scene, float]:
    """The scene that frame `number` shows, and the time in it (24ths of a second; 0 = middle).

    Scenes are composed for their middle, so that objects are in sight for most of the time.
    """
    index = number // video.scene_frames
    ticks = frame_ticks(video)
    middle = ticks[index * video.scene_frames + video.scene_frames // 2]
    scene = _scene(video.seeds[index], video.size, video.speed)
    return scene, (ticks[number] - middle) * _FPS / _TICKS


@cache
def _scene(seed: int, size: tuple[int, int], speed: float) -> Scene:
    return random_scene(seed, size, objects=4, speed=speed, spin=0.01)
