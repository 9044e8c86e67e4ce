"""Facts of a video file without decoding more than its first frame."""

import os
import stat
import struct
from contextlib import closing

import av

from pipeline.records import Reject, Video
from pipeline.source.content import TIMEOUT_S, content_sha256
from pipeline.source.decoder import Decoder, NoVideo
from pipeline.source.files import file_state, is_url, open_bytes
from pipeline.source.rgb import is_full_range, orientation

MIN_SIDE_PX = 16
MAX_ASPECT = 16


def probe(path: str, *, timeout_s: float = TIMEOUT_S) -> Video | Reject:
    """The facts of a file's video stream (see `Decoder` for which), or why it cannot be used.

    Args:
        timeout_s: see `Decoder`.

    Raises:
        OSError, Event, MemoryError: that says nothing about the content, such as a missing file.
    """
    sha256 = None
    try:
        if problem := _not_a_video(path):
            reason, detail = problem
        else:
            sha256 = content_sha256(path)
            return _first_facts(path, sha256, timeout_s)
    except NoVideo as error:
        reason, detail = error.reason, f"{error}"
    except av.FFmpegError as error:
        reason, detail = _explain(path, f"cannot be opened as a video: {error.strerror or error}")
    return Reject(path=path, sha256=sha256, stage="probe", reason=reason, detail=detail)


def _not_a_video(path: str) -> tuple[str, str] | None:
    """(reason, detail) for files that are recognised without FFmpeg."""
    if not is_url(path) and not stat.S_ISREG(os.stat(path).st_mode):
        return "not_a_file", "it is a folder, a pipe or a device"
    with closing(open_bytes(path)) as file:
        head = file.read_at(0, 64)
    if not head:
        return "empty", "the file has no bytes"
    if head.startswith(b"version https://git-lfs"):
        return "lfs_pointer", "a Git LFS pointer stands in for the video; run `git lfs pull`"
    return None


def _explain(path: str, failure: str) -> tuple[str, str]:
    """(reason, detail) for a file that FFmpeg cannot open."""
    boxes = _mp4_boxes(path)
    if boxes[:1] == [b"ftyp"] and b"moov" not in boxes:
        return "truncated", "the MP4 index (moov) is missing: cut off, or still being written"
    if b"pssh" in boxes:
        return "encrypted", "the MP4 is protected (it has a pssh box)"
    return "unreadable", failure


def _mp4_boxes(path: str) -> list[bytes]:
    """Types of the boxes at the top of an MP4 file, and inside its `moov` box."""
    types: list[bytes] = []
    at = 0
    with closing(open_bytes(path)) as file:
        while at < file.size and len(head := file.read_at(at, 8)) == 8 and len(types) < 1000:
            size, kind = struct.unpack(">I4s", head)
            if size == 1:
                size = int.from_bytes(file.read_at(at + 8, 8), "big")
            types.append(kind)
            at += 8 if kind == b"moov" else max(size, 8)
    return types


def _first_facts(path: str, sha256: str, timeout_s: float) -> Video:
    with Decoder(path, timeout_s=timeout_s) as decoder:
        container = decoder.container.format.name
        if container.endswith("_pipe"):
            raise NoVideo("picture", f"a still picture ({container.removesuffix('_pipe')})")
        frame = next(decoder.frames(), None)
        if frame is None:
            promised, errors = decoder.stream.frames, decoder.errors
            detail = f"no frame decodes; {promised} are promised, {errors} packets are damaged"
            raise NoVideo("no_frames", detail)
        turns, mirrored = orientation(frame)
        video = Video(
            path=path,
            sha256=sha256,
            size_bytes=file_state(path).size,
            container=container,
            codec=decoder.stream.codec_context.codec.canonical_name,
            pixel_format=frame.format.name,
            stream=decoder.stream.index,
            time_base=decoder.time_base,
            stored=(frame.height, frame.width),
            sample_aspect=decoder.sample_aspect,
            rotation=90 * turns,
            mirrored=mirrored,
            average_rate=decoder.average_rate,
            full_range=is_full_range(frame),
            matrix=frame.colorspace,
            transfer=frame.color_trc,
        )
    _check_shape(video)
    return video


def _check_shape(video: Video) -> None:
    """NoVideo for pictures so small or so long that scaling them to a clip makes no sense."""
    height, width = video.stored
    aspect = video.display_aspect
    if min(height, width) < MIN_SIDE_PX:
        raise NoVideo("too_small", f"{width}x{height} has a side shorter than {MIN_SIDE_PX} pixels")
    if max(aspect, 1 / aspect) > MAX_ASPECT:
        raise NoVideo("shape", f"shown at {float(aspect):.3g}:1, more than {MAX_ASPECT} to 1")
