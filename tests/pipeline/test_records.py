import pickle
from dataclasses import FrozenInstanceError, replace
from fractions import Fraction

import pytest

from pipeline.records import Reject, Source, Video

VIDEO = Video(
    path="/a.mp4",
    sha256="0" * 64,
    size_bytes=1,
    container="mov",
    codec="h264",
    pixel_format="yuv420p",
    stream=0,
    time_base=Fraction(1, 600),
    stored=(576, 704),
    sample_aspect=Fraction(16, 11),
    rotation=0,
    mirrored=False,
    average_rate=None,
    full_range=False,
    matrix=2,
    transfer=2,
    start_pts=-300,
    end_pts=600,
)
REJECT = Reject(path="/a", sha256=None, stage="probe", reason="empty", detail="no bytes")


@pytest.mark.parametrize("record", [VIDEO, REJECT, Source(path="/a", columns={"n": 1})])
def test_records_travel_and_do_not_change(record: object) -> None:
    assert pickle.loads(pickle.dumps(record)) == record
    with pytest.raises(FrozenInstanceError):
        record.path = "/b"  # type: ignore[attr-defined]


def test_seconds_may_start_below_zero() -> None:
    assert VIDEO.seconds == 1.5


def test_display_aspect_counts_pixel_shape_and_rotation() -> None:
    assert VIDEO.display_aspect == Fraction(16, 9)
    assert replace(VIDEO, rotation=270).display_aspect == Fraction(9, 16)
    assert replace(VIDEO, rotation=180).display_aspect == Fraction(16, 9)


@pytest.mark.parametrize(
    ("stage", "reason", "is_event"),
    [
        ("scan", "missing", True),
        ("scan", "event", True),
        ("build", "shard_failed", True),
        ("input", "unreadable_folder", True),
        ("build", "unreadable", False),
        ("input", "duplicate", False),
        ("probe", "not_video", False),
    ],
)
def test_what_happened_is_tried_again_and_what_a_video_is_stays(
    stage: str, reason: str, is_event: bool
):
    assert replace(REJECT, stage=stage, reason=reason).is_event is is_event
