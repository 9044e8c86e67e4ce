"""Source videos to frames: one thread, exact frame by frame, going on after damage.

Reading is streaming, so memory does not depend on the length of a video.
"""

import time
from collections.abc import Iterator
from fractions import Fraction
from types import TracebackType
from typing import Self

import av
from av.stream import Disposition

TIMEOUT_S = 600.0
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
_NOT_MOVING = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image


class DecodeTimeout(Exception):
    """Decoding one video took longer than its deadline allows."""


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

    Raises:
        NoVideo: nothing to decode.
        av.FFmpegError, OSError: the file cannot be opened.
        DecodeTimeout: the deadline has passed while opening, or in `frames` between packets.
    """

    def __init__(self, path: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self.errors = 0
        self.sound = True
        self.unkept: set[int | None] = set()
        self._damaged_at: int | None = None  # time of the last damage
        self.allow(timeout_s)
        # `file:` keeps colons in names from being read as protocols; the whitelists keep a
        # playlist that poses as a video from opening anything else.
        try:
            self.container = av.open(
                f"file:{path}",
                container_options={
                    "protocol_whitelist": "file",
                    "format_whitelist": ",".join(_FORMATS),
                },
                metadata_errors="replace",
                timeout=timeout_s,
            )
        except av.ArgumentError as error:
            raise NoVideo(
                "container",
                "it is no container of videos but a playlist, a text or raw samples, or one whose "
                "header is damaged",
            ) from error
        except av.FFmpegError:
            self._check_deadline()
            raise
        try:
            self.stream = _video_stream(self.container)
        except NoVideo:
            self.container.close()
            raise
        self.stream.codec_context.thread_count = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.container.close()

    @property
    def time_base(self) -> Fraction:
        return _fraction(self.stream.time_base) or Fraction(1, 1000)

    @property
    def sample_aspect(self) -> Fraction:
        return _fraction(self.stream.sample_aspect_ratio) or Fraction(1)

    @property
    def average_rate(self) -> Fraction | None:
        return _fraction(self.stream.average_rate)

    def allow(self, timeout_s: float) -> None:
        """Set the deadline of all further decoding to `timeout_s` from now."""
        self._deadline = time.monotonic() + timeout_s

    def _check_deadline(self) -> None:
        """Also after failures: to FFmpeg, an interrupted read looks like damage or the end."""
        if time.monotonic() > self._deadline:
            raise DecodeTimeout

    def frames(self) -> Iterator[av.VideoFrame]:
        """Frames from the current position to the end."""
        packets = self.container.demux(self.stream)
        while True:
            self._check_deadline()
            try:
                packet = next(packets)
            except StopIteration:
                self._check_deadline()
                return
            except av.FFmpegError:  # unreadable from here on; what the decoder holds is good
                self._check_deadline()
                self.errors += 1
                yield from self._decode(None)
                return
            if packet.is_keyframe and packet.size:
                self.unkept.add(packet.pts)
            yield from self._decode(packet)

    def _decode(self, packet: av.Packet | None) -> Iterator[av.VideoFrame]:
        """Frames that come out for a packet; for None, those still inside the decoder."""
        try:
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
        self.container.seek(pts, stream=self.stream, backward=True)


def _video_stream(container: av.container.InputContainer) -> av.VideoStream:
    moving = [s for s in container.streams.video if not s.disposition & _NOT_MOVING]
    if not moving:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "no"
        what = "only a cover picture" if container.streams.video else f"{kinds} streams"
        raise NoVideo("no_video_stream", f"the {container.format.long_name} file holds {what}")
    if moving[0].codec_context is None:
        raise NoVideo("no_decoder", f"this FFmpeg cannot decode stream {moving[0].index}")
    return moving[0]


def _fraction(value: Fraction | None) -> Fraction | None:
    """As a `Fraction`; None for unknown, which containers also write as 0."""
    return Fraction(value.numerator, value.denominator) if value else None
