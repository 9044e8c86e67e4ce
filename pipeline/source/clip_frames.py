"""The frames of planned clips, bit-equal to those of a decode from the start of the video."""

from collections import deque
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

HELD_BYTES = 2**28  # of pictures that wait for their clip
RESCAN = "bring that back, or run the same command again to scan it anew"


class _ClipReader:
    """Reads clips of one video, in one forward pass where they come in order of time.

    It seeks as long as that works; from the first frame that a seek does not bring out sound, it
    decodes from the start, which always works and is what the scan did. Then one pass does for all
    clips, whatever their order: frames that later ones show are held, as many as fit.

    Args:
        clips: all of them, of one video and size.
    """

    def __init__(self, clips: Sequence[Clip], timeout_s: float) -> None:
        self._clips, self._timeout_s = clips, timeout_s
        self._path, self._size = clips[0].path, clips[0].size
        self._most_held = HELD_BYTES // (3 * self._size[0] * self._size[1])
        self._decoder: Decoder | None = None
        self._trusts_seeking = True
        self._held: dict[int, np.ndarray] = {}  # pictures by number of the frame
        self._turns: dict[int, deque[int]] = {}  # of the clips that will show a frame

    def close(self) -> None:
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    def read(self, turn: int) -> UInt8[np.ndarray, "t 3 h w"]:
        """RGB of `clips[turn]`, one after another; LookupError if a frame does not come out."""
        clip = self._clips[turn]
        if clip.seekable and self._trusts_seeking:
            try:
                return self._by_time(clip)
            except (LookupError, av.FFmpegError):
                self._trusts_seeking = False
                self.close()
        if clip.numbers[0] not in self._turns:  # the first that is read so
            self._turns = turns_of_frames(self._clips, turn)
        try:
            self._decode_missing(clip)
            return np.stack([self._held[number] for number in clip.numbers])
        finally:
            self._forget(clip)

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

    def _decode_missing(self, clip: Clip) -> None:
        """Decode from the start, or from here, until all frames of the clip are held."""
        missing = sorted(set(clip.numbers) - self._held.keys())
        if missing and (self._decoder is None or self._number > missing[0]):
            self._open()
        while missing and self._number <= missing[-1]:
            frame = next(self._frames, None)
            if frame is None:
                raise LookupError(f"frame {missing[-1]} of {self._number} does not come out")
            if self._number in self._turns and self._number not in self._held:
                self._held[self._number] = self._picture(frame)
                self._hold_no_more_than(max(self._most_held, len(clip.numbers)))
            self._number += 1

    def _hold_no_more_than(self, most: int) -> None:
        """The frame to part with is the one that is shown last; decoding brings it back."""
        if len(self._held) > most:
            del self._held[max(self._held, key=lambda number: self._turns[number][0])]

    def _forget(self, clip: Clip) -> None:
        """It had its turn."""
        for number in set(clip.numbers):
            turns = self._turns[number]
            turns.popleft()
            if not turns:
                del self._turns[number]
                self._held.pop(number, None)


def turns_of_frames(clips: Sequence[Clip], start: int) -> dict[int, deque[int]]:
    """By number of a frame: the places of the clips from `start` on that show it."""
    turns: dict[int, deque[int]] = {}
    for turn, clip in enumerate(clips[start:], start=start):
        for number in set(clip.numbers):
            turns.setdefault(number, deque()).append(turn)
    return turns


def read_clips(
    clips: Sequence[Clip], *, timeout_s: float = TIMEOUT_S, remedy: str = RESCAN
) -> Iterator[UInt8[np.ndarray, "t 3 h w"] | Reject]:
    """The RGB frames of each clip in turn, or why there are none.

    Neighbours from one video are read together, so pass clips in the order of the clip table: of a
    video that cannot be sought in each frame is decoded once, whatever the overlap and order of its
    clips, as long as the frames that later clips show fit into 256 MiB. Frames are bit-equal to
    those of a decode from the start. Nothing comes out, neither frames nor a reject, unless the
    video is the one that was scanned, before and after the clip is read.

    Args:
        timeout_s: see `Decoder`.
        remedy: what to do about a video that changed.

    Raises:
        SourceChanged: a video is another now, or gone.
        OSError, Event, MemoryError: a video cannot be read; another try may succeed.
    """
    for _, run in groupby(clips, key=lambda clip: (clip.path, clip.size)):
        neighbours = list(run)
        reader = _ClipReader(neighbours, timeout_s)
        try:
            for turn, clip in enumerate(neighbours):
                check_content(clip, remedy)
                pictures = _read_or_reject(reader, turn, clip)
                check_content(clip, remedy)
                yield pictures
        finally:
            reader.close()


def _read_or_reject(
    reader: _ClipReader, turn: int, clip: Clip
) -> UInt8[np.ndarray, "t 3 h w"] | Reject:
    try:
        return reader.read(turn)
    except (av.FFmpegError, NoVideo, LookupError) as error:
        if not isinstance(error, LookupError):
            reader.close()  # what is half-way is not trusted for the next clip
        return Reject(
            path=clip.path,
            sha256=clip.source_sha256,
            stage="build",
            reason="unreadable",
            detail=f"clip {clip.key} was planned but now fails: {error}",
        )
