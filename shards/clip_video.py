"""The clip video: an ordinary H.264 mp4 that carries the temporal pyramid in its frame structure.

A clip is one closed GOP of hierarchical B-frames with a fixed structure:

    frame      0  1  2  3  4  5  6  7  8 ...
    type       I  b  B  b  P  b  B  b  P ...      b: no frame refers to it, B: only b-frames do

A decoder told to skip non-reference frames (`NONREF`) yields every second frame, one told to skip
B-frames (`BIDIR`) every fourth, each bit-equal to the same frame of the full decode. That needs
x264's `b-pyramid=strict`: under `normal` the P-frames refer to B-frames and change without them.
"""

import io
from fractions import Fraction
from typing import Literal

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from av.video.stream import VideoStream
from jaxtyping import UInt8

# Raise it when decoding gives other pixels: flow made from stored clips is then not reused.
REVISION = 2

# mbtree off: x264's macroblock tree reads memory it never wrote, so its output varies between runs.
_X264_STRUCTURE = (
    "bframes=3:b-adapt=0:b-pyramid=strict:scenecut=0:keyint=infinite:open-gop=0:mbtree=0"
)
# Without ACCURATE_RND swscale truncates and pictures darken by a grey level. BITEXACT: the same
# pixels with any instruction set. Bicubic is how it halves the chroma by itself.
_EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
_PLANES = (1, 2, 0)  # of RGB, in swscale's planar order G, B, R
_BT709 = 1  # the value of ITU-T H.273 for primaries and transfer characteristics


def encode_clip(frames: UInt8[np.ndarray, "t 3 h w"], fps: Fraction, *, crf: int = 18) -> bytes:
    """Encode frames as H.264 yuv420p (BT.709, limited range); the same input gives the same bytes.

    Args:
        frames: RGB, h and w even.
        fps: frames per second, written as the stream's rate.
        crf: x264's constant rate factor, 0 (lossless) to 51.
    """
    count, _, height, width = frames.shape
    if height % 2 or width % 2:
        raise ValueError(f"clip size {height}x{width} is odd; H.264 4:2:0 needs even sizes")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {
            "crf": str(crf),
            "preset": "medium",
            "tune": "fastdecode",
            "chroma_sample_location": "center",  # where swscale puts it
            "x264-params": _X264_STRUCTURE,
        }
        context = stream.codec_context
        context.thread_count = 1  # x264's output depends on its thread count
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries = context.color_trc = _BT709
        reformatter = VideoReformatter()
        for index, image in enumerate(frames):
            frame = reformatter.reformat(
                # Planes as they are: the same picture, and packing takes longer than all the rest.
                av.VideoFrame.from_ndarray(image.transpose(1, 2, 0), format="gbrp"),
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                interpolation=int(_EXACT),
                threads=1,
            )
            frame.pts, frame.time_base = index, 1 / fps
            if count % 4 == 0 and index == count - 2:
                frame.pict_type = PictureType.P  # else x264 ends on a structure with an odd P-frame
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def is_storable(fps: Fraction) -> bool:
    """Whether a clip can have this rate: about one frame in seven hours is the slowest.

    The muxer counts time in units of 1 / (numerator · 2^k), at least 10,000 a second; five frames
    of a clip, as far as x264 reorders, must fit 31 bits of them.
    """
    if not 0 < fps.numerator < 2**31:
        return False
    unit = 1
    while fps.numerator * unit < 10_000:
        unit *= 2
    return 5 * fps.denominator * unit < 2**31


def decode_clip(
    data: bytes, *, stride: int = 1, stop: int | None = None
) -> UInt8[np.ndarray, "n 3 h w"]:
    """Decode frames 0, stride, 2·stride, … before `stop`, and no frame that these do not need.

    Returns:
        RGB, exactly rounded, bit-equal to the same frames of the full decode.

    Raises:
        ValueError: the bytes are no clip video, or a frame that is needed does not come out.
    """
    skip: Literal["BIDIR", "NONREF", "DEFAULT"]
    skip = "BIDIR" if stride % 4 == 0 else "NONREF" if stride % 2 == 0 else "DEFAULT"
    try:
        with av.open(io.BytesIO(data), "r") as container:
            stream = container.streams.video[0]
            context = stream.codec_context
            context.thread_count, context.skip_frame = 1, skip
            end = min(stream.frames, stream.frames if stop is None else stop)
            wanted = range(0, end, stride)
            images = np.empty((len(wanted), 3, context.height, context.width), np.uint8)
            found = _fill(images, container, stream, stride)
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"not a readable clip video ({len(data)} bytes): {error}") from error
    if found != len(wanted):
        raise ValueError(
            f"clip video gave {found} of {len(wanted)} frames at stride {stride}; it is damaged or "
            "was not written by encode_clip"
        )
    return images


def _fill(
    images: UInt8[np.ndarray, "n 3 h w"],
    container: InputContainer,
    stream: VideoStream,
    stride: int,
) -> int:
    """Decode the wanted frames into `images`; returns how many came out."""
    reformatter = VideoReformatter()  # one for the clip: a new one each frame costs more than it
    if not stream.average_rate or not stream.time_base:
        raise ValueError("clip video has no frame rate; it was not written by encode_clip")
    frame_ticks = 1 / (stream.average_rate * stream.time_base)
    found = 0
    for frame in container.decode(stream):
        assert frame.pts is not None, "every mp4 sample has a timestamp"
        index, remainder = divmod(round(frame.pts / frame_ticks), stride)
        if remainder:
            continue
        if index >= len(images):
            break
        picture = reformatter.reformat(
            frame,
            format="gbrp",  # to packed RGB, swscale has no fast path that rounds exactly
            src_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.MPEG,
            interpolation=int(_EXACT),
            threads=1,
        )
        for channel, plane in zip(_PLANES, picture.planes, strict=True):
            rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
            images[index, channel] = rows[:, : plane.width]
        found += 1
    return found
