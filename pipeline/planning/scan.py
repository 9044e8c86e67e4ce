"""One video to its clips: probe, one pass at low resolution, shots, exact timestamps."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import av
import numpy as np

from pipeline.planning.clips import ClipRule, plan_clips
from pipeline.records import Reject, Source, Video
from pipeline.shots.detect import Detector, as_shots, find_changes
from pipeline.source.content import TIMEOUT_S, SourceChanged, content_sha256
from pipeline.source.decoder import Decoder, NoVideo
from pipeline.source.inputs import with_sidecar_caption
from pipeline.source.looks import Looks
from pipeline.source.probe import probe
from pipeline.source.rgb import Orientation, Thumbnail
from pipeline.source.timestamps import are_clean, gaps, repair, typical_step
from shards import Clip

# Where the index leads to keyframes from which decoding is exact, as the tests show, if all that
# is marked as one is one.
_SEEKABLE_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
_SEEKABLE_CODECS = {"h264", "hevc", "vp8", "vp9", "av1"}

Scan = tuple[Video, tuple[Clip, ...]] | Reject


def scan_video(
    source: Source, rule: ClipRule, *, detector: Detector, timeout_s: float = TIMEOUT_S
) -> Scan:
    """The video's facts and clips, or why its content gives none.

    Args:
        detector: of shots, see `pipeline.shots.detect`.
        timeout_s: see `Decoder`.

    Raises:
        OSError, Event, MemoryError: nothing is known about the content; another try may succeed.
    """
    video = probe(source.path, timeout_s=timeout_s)
    if isinstance(video, Reject):
        result: Scan = video
    else:
        result = _clips_of(video, source, rule, detector, timeout_s)
    if video.sha256 not in (None, content_sha256(source.path)):
        raise SourceChanged(
            f"{source.path} became another file while it was scanned: run the same command again",
            source.path,
        )
    return result


def _clips_of(
    video: Video, source: Source, rule: ClipRule, detector: Detector, timeout_s: float
) -> Scan:
    try:
        seen = _watch(video.path, detector, timeout_s)
    except (av.FFmpegError, NoVideo) as error:
        detail = f"opened once, but then: {error}"
        return Reject(
            path=video.path, sha256=video.sha256, stage="decode", reason="unreadable", detail=detail
        )
    return _plan(video, with_sidecar_caption(source), seen, rule)


@dataclass(kw_only=True, slots=True)
class _Seen:
    """What one pass over a video's frames collects."""

    raw_times: list[int | None] = field(default_factory=list)
    changes: list[range] = field(default_factory=list)
    unsound: set[int] = field(default_factory=set)
    last_duration: int = 0
    errors: int = 0
    keys_hold: bool = False
    looks: Looks = field(default_factory=Looks)


def _watch(path: str, detector: Detector, timeout_s: float) -> _Seen:
    seen = _Seen()
    with Decoder(path, timeout_s=timeout_s) as decoder:
        seen.changes.extend(find_changes(_thumbnails(decoder, seen), detector))
        seen.errors = decoder.errors
        seen.keys_hold = not decoder.unkept
    return seen


def _thumbnails(decoder: Decoder, seen: _Seen) -> Iterator[np.ndarray]:
    """Small pictures of all frames; notes their times, and cuts where shape or soundness turns."""
    thumbnail, orientation = Thumbnail(), Orientation()
    before = None
    for number, frame in enumerate(decoder.frames()):
        now = frame.height, frame.width, *orientation(frame), decoder.sound
        if before not in (None, now):
            seen.changes.append(range(number, number))
        before = now
        if not decoder.sound:
            seen.unsound.add(number)
        seen.raw_times.append(frame.pts)
        seen.last_duration = frame.duration or 0
        picture = thumbnail(frame)
        seen.looks.add(picture, frame.interlaced_frame)
        yield picture


def _plan(video: Video, source: Source, seen: _Seen, rule: ClipRule) -> Scan:
    clean = are_clean(seen.raw_times)
    times = repair(seen.raw_times, _claimed_step(video))
    video = replace(
        video,
        frames=len(times),
        decode_errors=seen.errors,
        start_pts=times[0],
        end_pts=times[-1] + (seen.last_duration or typical_step(times)),
        seekable=clean
        and not seen.errors
        and seen.keys_hold
        and video.container in _SEEKABLE_CONTAINERS
        and video.codec in _SEEKABLE_CODECS,
    )
    changes = [*seen.changes, *(range(n, n) for n in gaps(times, video.time_base))]
    shots = [shot for shot in as_shots(changes, len(times)) if shot.start not in seen.unsound]
    planned = plan_clips(video, source, times, shots, rule, damaged=len(seen.unsound))
    if isinstance(planned, Reject):
        return planned
    clips, dropped = planned
    seen_clips = tuple(seen.looks.describe(clip, video) for clip in clips)
    return replace(video, shots=len(shots), dropped=dropped), seen_clips


def _claimed_step(video: Video) -> int:
    """Ticks from frame to frame by the container's rate, 25 a second if it claims none."""
    return max(1, round(1 / ((video.average_rate or 25) * video.time_base)))
