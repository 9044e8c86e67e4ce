import hashlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from pipeline.records import Reject, Video
from pipeline.source.probe import probe

BAD = {
    "-video-with-dash-.mp4": "too_small",
    "audio-aac-001.mp4": "no_video_stream",
    "broken.mp4": "truncated",
    "dali_test_1_lfs_pointer.mp4": "lfs_pointer",
    "derived_jpg_named.avi": "picture",
    "derived_mp3_named.mp4": "no_video_stream",
    "derived_png_named.mp4": "picture",
    "derived_text_named.mp4": "unreadable",
    "derived_trunc60_moov_at_end.mp4": "truncated",
    "derived_zero_length.mp4": "empty",
    "empty.flv": "unreadable",
    "ffprobe-big_buck_bunny_720p_1mb.mp4": "container",
    "invalid-bitstream.webm": "no_frames",
    "sample_fragmented_clearkey.mp4": "encrypted",
    "sample_qt.mp4": "no_frames",
    "sample_with_fake_auxiliary_tracks.mp4": "too_small",
    "video_init.mp4": "no_frames",
    "wrongfile.mp4": "truncated",
}


@pytest.mark.parametrize(("name", "reason"), BAD.items())
def test_files_that_are_no_videos(data_dir: Path, name: str, reason: str) -> None:
    reject = probe(str(data_dir / "bad" / name))
    assert isinstance(reject, Reject)
    assert (reject.stage, reject.reason) == ("probe", reason)
    assert reject.detail


def facts(path: Path) -> Video:
    video = probe(str(path))
    assert isinstance(video, Video), video
    return video


def test_facts(data_dir: Path) -> None:
    path = data_dir / "videos/issue-195-aspect-ratio.mp4"
    video = facts(path)
    assert video.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert video.size_bytes == path.stat().st_size
    assert (video.codec, video.pixel_format, video.stored) == ("h264", "yuv420p", (576, 704))
    assert (video.sample_aspect, video.display_aspect) == (Fraction(16, 11), Fraction(16, 9))
    assert (video.time_base, video.average_rate) == (Fraction(1, 12800), Fraction(25))
    assert not video.full_range


@pytest.mark.parametrize(
    ("name", "rotation"),
    [("videos/ios9.mov", 270), ("videos/fire2.mp4", 180), ("bad/nasa_13013_rotated.mp4", 90)],
)
def test_rotation(data_dir: Path, name: str, rotation: int) -> None:
    assert facts(data_dir / name).rotation == rotation


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "matrix", "transfer"),
    [
        ("bad/sample_with_color_info.mp4", "hevc", "yuv420p10le", 9, 18),
        ("bad/testsrc2_444_12bit_hevc.mp4", "hevc", "yuv444p12le", 2, 2),
        ("videos/sample_av1.mp4", "av1", "yuv420p", 2, 2),
        ("videos/flower.webm", "vp8", "yuv420p", 5, 2),
    ],
)
def test_colour(
    data_dir: Path, name: str, codec: str, pixel_format: str, matrix: int, transfer: int
) -> None:
    video = facts(data_dir / name)
    assert (video.codec, video.pixel_format) == (codec, pixel_format)
    assert (video.matrix, video.transfer) == (matrix, transfer)


def test_content_decides_and_not_the_name(data_dir: Path) -> None:
    assert facts(data_dir / "bad/derived_webm_named.mp4").codec == "vp9"
    assert facts(data_dir / "bad/derived_gif_named.mp4").codec == "gif"


def test_extreme_shapes_are_refused(write_video: Callable[..., str]) -> None:
    reject = probe(write_video("strip.mp4", [np.zeros((16, 512, 3), np.uint8)] * 2))
    assert isinstance(reject, Reject)
    assert reject.reason == "shape"


def test_a_folder_is_no_video(tmp_path: Path) -> None:
    reject = probe(str(tmp_path))
    assert isinstance(reject, Reject)
    assert reject.reason == "not_a_file"


def test_a_missing_file_is_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        probe(str(tmp_path / "nowhere.mp4"))


def test_boxes_that_lie_about_their_size_are_no_crash(tmp_path: Path) -> None:
    path = tmp_path / "huge.mp4"
    path.write_bytes(b"\0\0\0\1ftyp" + b"\xff" * 8 + bytes(64))
    reject = probe(str(path))
    assert isinstance(reject, Reject)
    assert reject.reason == "truncated"
