"""Source videos to frames: one thread, exact frame by frame, going on after damage.

Reading is streaming, so memory does not depend on the length of a video.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from mmap import mmap
from types import TracebackType
from typing import Self

import av
from av.stream import Disposition

from pipeline.progress import tell_progress
from pipeline.source.content import TIMEOUT_S, SourceFile

MAX_PIXELS = 2**26  # of a picture, 8192x8192: decoders hold several, and a damaged header lies
# What FFmpeg may take a file for: containers of videos, and pictures and sound so that they are
# refused as what they are. No playlist (concat, hls, dash, sdp, imf ...), whose text would have it
# open other files, and no guesses at raw samples or text art.
_FORMATS = (
    *("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "asf", "flv", "live_flv", "kux", "gif"),
    *("mpegts", "mpeg", "mpegvideo", "m4v", "h263", "h264", "hevc", "vvc", "av1", "obu", "ivf"),
    *("mxf", "gxf", "lxf", "ogg", "rm", "nut", "nuv", "nsv", "dv", "wtv", "ty", "swf"),
    *("yuv4mpegpipe", "dirac", "vc1", "mjpeg", "apng", "amv", "bink", "roq", "smk"),
    *("jpeg_pipe", "png_pipe", "bmp_pipe", "gif_pipe", "tiff_pipe", "webp_pipe"),
    *("mp3", "aac", "ac3", "amr", "flac", "wav"),
)
_LIMITS = {"max_pixels": str(MAX_PIXELS)}
_NOT_MOVING = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


class NoVideo(Exception):
    """A readable container without a video stream that can be decoded; `reason` is a short id."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Decoder:
    """The frames of a file's video stream in presentation order, as a context manager.

    The stream is the first that is neither a cover picture nor a thumbnail track, whatever its
    size: the choice then does not change with the FFmpeg version. Decoding is single-threaded, as
    error concealment depends on the number of threads.

    Attributes:
        errors: packets that did not decode, plus frames that the decoder marks as damaged, so far.
        sound: the last frame stands on no damage: none since the last keyframe.
        unkept: times of packets marked key that have not come out as a keyframe, so far. After the
            last frame any that is left is a lie of the container (H.264 with intra-refresh marks
            where a refresh begins), an edit list's or a damaged one: decoding from it is not exact.

    Args:
        timeout_s: for reading on without a packet: whatever the length of the video, and however
            slow the machine, it gets on.

    Raises:
        NoVideo: nothing to decode.
        av.FFmpegError: the content is no video, or damaged from its start.
        OSError, Event: the file cannot be opened, or read; also while it is decoded.
        MemoryError: the machine has none left; also while it is decoded.
    """

    def __init__(self, path: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self.errors = 0
        self.sound = True
        self.unkept: set[int | None] = set()
        self._damaged_at: int | None = None  # time of the last damage
        self._file = SourceFile(path, timeout_s=timeout_s)
        try:
            with self._events_first():
                self.container = _open(self._file)
            self.stream = _video_stream(self.container)
        except BaseException:
            self._file.close()
            raise
        self.stream.codec_context.thread_count = 1
        self.stream.codec_context.options = _LIMITS

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self.container.close()
        self._file.close()

    @property
    def time_base(self) -> Fraction:
        return _fraction(self.stream.time_base) or Fraction(1, 1000)

    @property
    def sample_aspect(self) -> Fraction:
        return _fraction(self.stream.sample_aspect_ratio) or Fraction(1)

    @property
    def average_rate(self) -> Fraction | None:
        return _fraction(self.stream.average_rate)

    @contextmanager
    def _events_first(self) -> Iterator[None]:
        """What FFmpeg says is about the content, unless reading failed or memory ran out."""
        try:
            yield
        except av.error.MemoryError as error:
            if _memory_is_left():
                raise  # damaged tables ask for more than any sound video needs
            raise MemoryError(f"no memory left to decode {self._file.name}") from error
        finally:
            self._file.check()

    def frames(self) -> Iterator[av.VideoFrame]:
        """Frames from the current position to the end."""
        for packet in self._packets():
            if packet is not None and packet.is_keyframe and packet.size:
                self.unkept.add(packet.pts)
            yield from self._decode(packet)

    def _packets(self) -> Iterator[av.Packet | None]:
        """Packets to the end; None in place of the first that cannot be read, and of the rest."""
        packets = self.container.demux(self.stream)
        while True:
            self._file.allow()
            try:
                with self._events_first():
                    packet = next(packets, None)
            except av.FFmpegError:
                self.errors += 1
                yield None
                return
            except IndexError:  # PyAV trips over streams that came up late, after the end of ours
                return
            if packet is None:
                return
            tell_progress()
            yield packet

    def _decode(self, packet: av.Packet | None) -> Iterator[av.VideoFrame]:
        """Frames that come out for a packet; for None, those still inside the decoder."""
        try:
            with self._events_first():
                frames = self.stream.decode(packet)
        except av.EOFError:
            return
        except av.FFmpegError:
            self._note_damage(packet.pts if packet is not None else None)
            return
        for frame in frames:
            if frame.is_corrupt:
                self._note_damage(frame.pts)
            elif frame.key_frame:
                self.unkept.discard(frame.pts)
                self.sound |= self._is_after_damage(frame)
            yield frame

    def _is_after_damage(self, frame: av.VideoFrame) -> bool:
        """False for a keyframe that was decoded before the damage and comes out after it."""
        if self._damaged_at is None or frame.pts is None:
            return True
        return frame.pts > self._damaged_at

    def _note_damage(self, pts: int | None) -> None:
        self.errors += 1
        self.sound = False
        self._damaged_at = pts

    def keyframe_before(self, pts: int) -> int | None:
        """Time of the last keyframe at or before `pts` that the container's index knows."""
        index = self.stream.index_entries
        found = index.search_timestamp(pts, backward=True)
        return index[found].timestamp if found >= 0 else None

    def seek(self, pts: int) -> None:
        """Go to the last keyframe at or before `pts`; call `frames` anew after it."""
        self._file.allow()
        with self._events_first():
            self.container.seek(pts, stream=self.stream, backward=True)


def _open(file: SourceFile) -> av.container.InputContainer:
    """Raises NoVideo for what is none of the formats."""
    try:
        # The whitelists keep a playlist that poses as a video from opening anything.
        return av.open(
            file,
            mode="r",
            options=_LIMITS,
            container_options={
                "protocol_whitelist": "file",
                "format_whitelist": ",".join(_FORMATS),
            },
            metadata_errors="replace",
        )
    except av.ArgumentError as error:
        raise NoVideo(
            "container",
            "it is no container of videos but a playlist, a text or raw samples, or one whose "
            "header is damaged",
        ) from error


def _video_stream(container: av.container.InputContainer) -> av.VideoStream:
    moving = [s for s in container.streams.video if not s.disposition & _NOT_MOVING]
    if not moving:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "no"
        what = "only a cover picture" if container.streams.video else f"{kinds} streams"
        raise NoVideo("no_video_stream", f"the {container.format.long_name} file holds {what}")
    if moving[0].codec_context is None:
        raise NoVideo("no_decoder", f"this FFmpeg cannot decode stream {moving[0].index}")
    width, height = moving[0].codec_context.width, moving[0].codec_context.height
    if width * height > MAX_PIXELS:
        raise NoVideo("too_large", f"{width}x{height} are more than {MAX_PIXELS} pixels a picture")
    return moving[0]


def _memory_is_left() -> bool:
    """Whether the process can still have what a few of the largest pictures take."""
    try:
        mmap(-1, 8 * MAX_PIXELS).close()
    except OSError:
        return False
    return True


def _fraction(value: Fraction | None) -> Fraction | None:
    """As a `Fraction`; None for unknown, which containers also write as 0."""
    return Fraction(value.numerator, value.denominator) if value else None
