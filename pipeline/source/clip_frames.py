"""The frames of planned clips, bit-equal to those of a decode from the start of the video."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import av
import numpy as np
from jaxtyping import UInt8

from pipeline.records import Reject
from pipeline.source.content import TIMEOUT_S, check_content
from pipeline.source.decoder import Decoder, NoVideo
from pipeline.source.rgb import Picture
from shards import Clip

RESCAN = "bring that back, or run the same command again to scan it anew"


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
            self._decoder.close()
            self._decoder = None

    def read(self, clip: Clip) -> UInt8[np.ndarray, "t 3 h w"]:
        """RGB; LookupError if a frame of the clip does not come out."""
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

    def _by_time(self, clip: Clip) -> UInt8[np.ndarray, "t 3 h w"]:
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

    def _by_number(self, clip: Clip) -> UInt8[np.ndarray, "t 3 h w"]:
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
    clips: Sequence[Clip], *, timeout_s: float = TIMEOUT_S, remedy: str = RESCAN
) -> Iterator[UInt8[np.ndarray, "t 3 h w"] | Reject]:
    """The RGB frames of each clip in turn, or why there are none.

    Neighbours from one video are read in one pass where their order allows, so pass clips in the
    order of the clip table. Frames are bit-equal to those of a decode from the start. Nothing comes
    out, neither frames nor a reject, unless the video is the one that was scanned, before and after
    the clip is read.

    Args:
        timeout_s: see `Decoder`.
        remedy: what to do about a video that changed.

    Raises:
        SourceChanged: a video is another now, or gone.
        OSError, Event, MemoryError: a video cannot be read; another try may succeed.
    """
    for (path, size), run in groupby(clips, key=lambda clip: (clip.path, clip.size)):
        reader = _ClipReader(path, size, timeout_s)
        try:
            for clip in run:
                check_content(clip, remedy)
                pictures = _read_or_reject(reader, clip)
                check_content(clip, remedy)
                yield pictures
        finally:
            reader.close()


def _read_or_reject(reader: _ClipReader, clip: Clip) -> UInt8[np.ndarray, "t 3 h w"] | Reject:
    try:
        return reader.read(clip)
    except (av.FFmpegError, NoVideo, LookupError) as error:
        detail = f"clip {clip.key} was planned but now fails: {error}"
    reader.close()  # what is half-way is not trusted for the next clip
    return Reject(
        path=clip.path, sha256=clip.source_sha256, stage="build", reason="unreadable", detail=detail
    )
