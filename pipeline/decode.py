"""Source videos to frames: one thread, exact frame by frame, going on after damage.

Reading is streaming, so memory does not depend on the length of a video.
"""

import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import groupby
from types import TracebackType
from typing import Self

import av
import numpy as np
from av.stream import Disposition

from pipeline.picture import Picture
from pipeline.records import Clip, Reject

TIMEOUT_S = 600.0
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

    Raises:
        NoVideo: nothing to decode.
        av.FFmpegError, OSError: the file cannot be opened.
        DecodeTimeout: from `frames`, when the deadline has passed before a packet.
    """

    def __init__(self, path: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self.errors = 0
        self.sound = True
        self._damaged_at: int | None = None  # time of the last damage
        self.allow(timeout_s)
        # `file:` keeps colons in names from being read as protocols; the whitelist keeps a
        # playlist that poses as a video from opening anything else.
        self.container = av.open(
            f"file:{path}",
            container_options={"protocol_whitelist": "file"},
            metadata_errors="replace",
            timeout=timeout_s,
        )
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

    def frames(self) -> Iterator[av.VideoFrame]:
        """Frames from the current position to the end."""
        packets = self.container.demux(self.stream)
        while True:
            if time.monotonic() > self._deadline:
                raise DecodeTimeout
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError:  # unreadable from here on; what the decoder holds is good
                self.errors += 1
                yield from self._decode(None)
                return
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
            elif frame.key_frame and self._is_after_damage(frame):
                self.sound = True
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


class _ClipReader:
    """Reads clips of one video in one forward pass where they come in order of time.

    It seeks as long as that works; from the first frame that a seek does not bring out sound, it
    decodes from the start, which always works and is what the scan did.
    """

    def __init__(self, path: str, size: tuple[int, int], timeout_s: float) -> None:
        self._path, self._size, self._timeout_s = path, size, timeout_s
        self._decoder: Decoder | None = None
        self._trusts_seeking = True

    def close(self) -> None:
        if self._decoder is not None:
            self._decoder.container.close()
            self._decoder = None

    def read(self, clip: Clip) -> np.ndarray:
        """uint8 [t, 3, h, w]; LookupError if a frame of the clip does not come out."""
        if self._decoder is not None:
            self._decoder.allow(self._timeout_s)
        if clip.seekable and self._trusts_seeking:
            try:
                return self._by_time(clip)
            except (LookupError, av.FFmpegError):
                self._trusts_seeking = False
                self.close()
        return self._by_number(clip)

    def _open(self) -> Decoder:
        self.close()
        self._decoder = decoder = Decoder(self._path, timeout_s=self._timeout_s)
        self._picture = Picture(self._size, decoder.sample_aspect)
        self._frames = decoder.frames()
        self._number = 0  # of the next frame, if nothing seeks
        self._pts: int | None = None  # of the last frame, if known
        return decoder

    def _by_time(self, clip: Clip) -> np.ndarray:
        """Seek if a keyframe lies between here and the clip; frames are known by their time."""
        decoder = self._decoder or self._open()
        key = decoder.keyframe_before(clip.pts[0])
        here = self._pts
        if here is None or here >= clip.pts[0] or key is None or key > here:
            decoder.seek(clip.pts[0])
            self._frames = decoder.frames()
        wanted, found = set(clip.pts), {}
        errors = decoder.errors
        for frame in self._frames:
            self._pts = pts = frame.pts
            if pts in wanted:
                found[pts] = self._picture(frame)
            if pts is None or pts >= clip.pts[-1]:
                break
        if len(found) < len(wanted) or decoder.errors > errors:
            raise LookupError(f"{len(wanted) - len(found)} frames are missing after a seek")
        return np.stack([found[pts] for pts in clip.pts])

    def _by_number(self, clip: Clip) -> np.ndarray:
        """Decode from the start; frames are known by their number."""
        if self._decoder is None or self._number > clip.numbers[0]:
            self._open()
        wanted, found = set(clip.numbers), {}
        for number, frame in enumerate(self._frames, start=self._number):
            self._number = number + 1
            if number in wanted:
                found[number] = self._picture(frame)
            if number == clip.numbers[-1]:
                return np.stack([found[number] for number in clip.numbers])
        raise LookupError(f"frame {clip.numbers[-1]} of {self._number} does not come out")


def read_clips(
    clips: Sequence[Clip], size: tuple[int, int], *, timeout_s: float = TIMEOUT_S
) -> Iterator[np.ndarray | Reject]:
    """The frames of each clip in turn, uint8 [t, 3, h, w] RGB, or why there are none.

    Neighbours from one video are read in one pass where their order allows, so pass clips in the
    order of the clip table. Frames are bit-equal to those of a decode from the start.

    Args:
        size: (height, width) of the pictures.
        timeout_s: for decoding one clip.
    """
    for path, run in groupby(clips, key=lambda clip: clip.path):
        reader = _ClipReader(path, size, timeout_s)
        try:
            for clip in run:
                yield _read_or_reject(reader, clip)
        finally:
            reader.close()


def read_clip(
    clip: Clip, size: tuple[int, int], *, timeout_s: float = TIMEOUT_S
) -> np.ndarray | Reject:
    """One clip, see `read_clips`."""
    return next(read_clips([clip], size, timeout_s=timeout_s))


def _read_or_reject(reader: _ClipReader, clip: Clip) -> np.ndarray | Reject:
    try:
        return reader.read(clip)
    except DecodeTimeout:
        reason, detail = "decode_timeout", f"clip {clip.key}: the deadline passed while decoding"
    except (av.FFmpegError, OSError, NoVideo, LookupError) as error:
        reason, detail = "unreadable", f"clip {clip.key} was planned but now fails: {error}"
    return Reject(path=clip.path, sha256=clip.sha256, stage="build", reason=reason, detail=detail)
