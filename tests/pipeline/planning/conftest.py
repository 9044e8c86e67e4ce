"""Scans of videos that need not exist."""

from collections.abc import Callable
from fractions import Fraction

import pytest

from pipeline.planning.scan import Scan
from pipeline.records import Video
from shards.schema import Clip


@pytest.fixture
def scan_of() -> Callable[..., Scan]:
    """`scan_of(name, clips, content=...)`: of the video /NAME.mp4, with SHA-256 CONTENT * 64."""
    return _scan


def _scan(name: str, clips: int, content: str | None = None) -> Scan:
    sha256 = (content or name) * 64
    video = Video(
        path=f"/{name}.mp4",
        sha256=sha256,
        size_bytes=1,
        container="mov",
        codec="h264",
        pixel_format="yuv420p",
        stream=0,
        time_base=Fraction(1, 25),
        stored=(64, 64),
        sample_aspect=Fraction(1),
        rotation=0,
        mirrored=False,
        average_rate=None,
        full_range=False,
        matrix=2,
        transfer=2,
    )
    planned = tuple(
        Clip(
            key=f"{name}-{number}",
            path=video.path,
            source_sha256=sha256,
            numbers=(2 * number, 2 * number + 1),
            pts=(2 * number, 2 * number + 1),
            time_base=video.time_base,
            fps=Fraction(25),
            size=(32, 48),
            shot=0,
            repeated=0,
            decode_errors=0,
            seekable=True,
        )
        for number in range(clips)
    )
    return video, planned
