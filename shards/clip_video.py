"""The clip video: an ordinary H.264 mp4 that carries the temporal pyramid in its frame structure.

A clip is one closed GOP of hierarchical B-frames with a fixed structure:

    frame      0  1  2  3  4  5  6  7  8 ...
    type       I  b  B  b  P  b  B  b  P ...      b: no frame refers to it, B: only b-frames do

A decoder told to skip non-reference frames (`NONREF`) yields every second frame, one told to skip
B-frames (`BIDIR`) every fourth, each bit-equal to the same frame of the full decode. That needs
x264's `b-pyramid=strict`: under `normal` the P-frames refer to B-frames and change without them.
"""

import io
import math
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from itertools import islice

import av
import numpy as np
import numpy.typing as npt
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from jaxtyping import UInt8

from shards.mp4 import Track, read_track

# Raise it when decoding gives other pixels: flow made from stored clips is then not reused.
REVISION = 2

# mbtree off: x264's macroblock tree reads memory it never wrote, so its output varies between runs.
_X264_STRUCTURE = (
    "bframes=3:b-adapt=0:b-pyramid=strict:scenecut=0:keyint=infinite:open-gop=0:mbtree=0"
)
# Without ACCURATE_RND swscale truncates and pictures darken by a grey level. BITEXACT: the same
# pixels with any instruction set. Bicubic is how it halves the chroma by itself.
_EXACT = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
_held = threading.local()  # a thread's reformatter: to set one up costs as much as a frame
_RED_GREEN_BLUE = (2, 0, 1)  # of swscale's planes
Write = Callable[[Sequence[UInt8[np.ndarray, "h w"]], UInt8[np.ndarray, "3 new_h new_w"]], None]
_BT709 = 1  # the value of ITU-T H.273 for primaries and transfer characteristics


class DamagedClip(ValueError):
    """Bytes that are no clip video, or not the one that was asked for."""


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
        DamagedClip: the bytes are no clip video, or a frame that is needed does not come out.
    """
    track = _read_track(data)
    shown = range(0, len(track) if stop is None else min(stop, len(track)), stride)
    images = np.empty((len(shown), 3, *track.size), np.uint8)
    _decode(data, track, shown, partial(_write_rgb, images, write=_copy))
    return images


def decode_rgb(
    data: bytes,
    shown: Sequence[int],
    out: UInt8[np.ndarray, "n 3 h w"],
    write: Write | None = None,
) -> None:
    """Decode stored frames into their places, and no frame that these do not need.

    Args:
        data: a clip video.
        shown: the number of the stored frame in each place; a frame may have several.
        out: is written: RGB, exactly rounded, bit-equal to `decode_clip`'s.
        write: writes a frame, given as red, green and blue, into its place, which may then be of
            another size; None copies it.

    Raises:
        DamagedClip: the bytes are no clip video, or a frame that is needed does not come out.
        ValueError: `out` has another shape than the clip's frames.
    """
    track = _read_track(data)
    if write is None:
        _check_room(out, (len(shown), 3, *track.size))
    _decode(data, track, shown, partial(_write_rgb, out, write=write or _copy))


def decode_planes(data: bytes, shown: Sequence[int], out: UInt8[np.ndarray, "n p"]) -> None:
    """As `decode_rgb`, but the planes as they are stored: half of the bytes, a third of the work.

    Args:
        data: a clip video.
        shown: the number of the stored frame in each place; a frame may have several.
        out: is written: Y [h, w], then U and V [h/2, w/2]; BT.709 in limited range.
    """
    track = _read_track(data)
    height, width = track.size
    _check_room(out, (len(shown), 3 * height * width // 2))
    _decode(data, track, shown, partial(_write_planes, out))


def _read_track(data: bytes) -> Track:
    try:
        return read_track(data)
    except ValueError as error:
        raise DamagedClip(f"not a readable clip video ({len(data)} bytes): {error}") from error


def _check_room(out: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> None:
    if out.dtype != np.uint8 or out.shape != shape:
        raise ValueError(
            f"the frames to decode are uint8 {list(shape)}, the array for them is {out.dtype} "
            f"{list(out.shape)}"
        )


def _decode(
    data: bytes, track: Track, shown: Sequence[int], write: Callable[[list[int], VideoFrame], None]
) -> None:
    """Have `write` put each frame into the places that show it."""
    places = defaultdict[int, list[int]](list)
    for place, number in enumerate(shown):
        places[int(number)].append(place)
    if unknown := sorted(places.keys() - set(track.frames.tolist())):
        raise DamagedClip(f"the clip video has {len(track)} frames, none of them is {unknown}")
    try:
        for picture in _pictures(data, track, list(places)) if places else ():
            _check_size(picture, track.size)
            if picture.pts is not None and picture.pts in places:
                write(places.pop(picture.pts), picture)
    except MemoryError:  # FFmpeg's too: it says nothing of the clip
        raise
    except av.FFmpegError as error:
        raise DamagedClip(f"not a readable clip video ({len(data)} bytes): {error}") from error
    if places:
        raise DamagedClip(
            f"clip video gave {len(set(shown)) - len(places)} of {len(set(shown))} frames, not "
            f"{sorted(places)}; it is damaged or was not written by encode_clip"
        )


def _pictures(data: bytes, track: Track, shown: Sequence[int]) -> Iterator[VideoFrame]:
    """What a decoder gives until the frames that are shown are out; `pts` is a frame's number."""
    decoder = VideoCodecContext.create("h264", "r")
    decoder.extradata, decoder.thread_count = track.parameters, 1
    stride = math.gcd(4, *shown)
    decoder.skip_frame = "BIDIR" if stride == 4 else "NONREF" if stride == 2 else "DEFAULT"
    end = np.flatnonzero(np.isin(track.frames, shown))[-1] + 1  # what is coded later is not needed
    coded = zip(track.offsets.tolist(), track.sizes.tolist(), track.frames.tolist(), strict=True)
    for offset, size, number in islice(coded, end):
        packet = Packet(data[offset : offset + size])
        packet.pts = number
        yield from decoder.decode(packet)
    yield from decoder.decode(None)


def _check_size(picture: VideoFrame, size: tuple[int, int]) -> None:
    if (picture.height, picture.width) != size:
        raise DamagedClip(
            f"clip video says {size[0]}x{size[1]} and has a frame of "
            f"{picture.height}x{picture.width}; it is damaged"
        )


def _write_rgb(
    out: UInt8[np.ndarray, "n 3 h w"], places: list[int], picture: VideoFrame, write: Write
) -> None:
    if not hasattr(_held, "reformatter"):
        _held.reformatter = VideoReformatter()
    converted = _held.reformatter.reformat(
        picture,
        format="gbrp",  # to packed RGB, swscale has no fast path that rounds exactly
        src_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.MPEG,
        interpolation=int(_EXACT),
        threads=1,
    )
    colours = [_pixels(converted.planes[plane]) for plane in _RED_GREEN_BLUE]
    for place in places:
        write(colours, out[place])


def _copy(colours: Sequence[UInt8[np.ndarray, "h w"]], out: UInt8[np.ndarray, "3 h w"]) -> None:
    for channel, pixels in enumerate(colours):
        out[channel] = pixels


def _write_planes(out: UInt8[np.ndarray, "n p"], places: list[int], picture: VideoFrame) -> None:
    if picture.format.name != "yuv420p":
        raise DamagedClip(f"clip video is {picture.format.name}, encode_clip writes yuv420p")
    start = 0
    for plane in picture.planes:
        pixels = _pixels(plane)
        for place in places:
            out[place, start : start + pixels.size].reshape(pixels.shape)[:] = pixels
        start += pixels.size


def _pixels(plane: VideoPlane) -> UInt8[np.ndarray, "h w"]:
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width]
