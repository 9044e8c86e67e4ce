"""The demo's videos are what they claim to be."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from fluxshard.demo.videos import (
    DEMO_CONFIG,
    VIDEOS,
    DemoVideo,
    frame_ticks,
    make_videos,
    scene_at,
    write_video,
)
from pipeline.planning.scan import Scan
from pipeline.records import Reject
from pipeline.source.clip_frames import read_clips
from pipeline.source.rgb import cover_size
from shards import Clip

ClipsOf = Callable[[str], tuple[Clip, ...]]
BY_NAME = {video.name: video for video in VIDEOS}
USABLE = [video.name for video in VIDEOS if video.name not in ("truncated.mp4", "too_short.mp4")]


def test_the_videos_cover_what_a_build_meets(scans: dict[str, Scan]):
    videos = {name: scan[0] for name, scan in scans.items() if not isinstance(scan, Reject)}
    assert len(videos) >= 8
    assert {video.codec for video in videos.values()} == {"h264", "hevc", "vp9"}
    assert videos["rotated.mp4"].rotation == 90
    assert videos["rotated.mp4"].stored == (128, 160)
    assert videos["cuts.mp4"].shots == 3
    assert videos["cut_off.webm"].frames < BY_NAME["cut_off.webm"].frames
    steps = np.diff(frame_ticks(BY_NAME["variable_rate.mp4"]))
    assert len(set(steps)) > 2


def test_unusable_files_are_rejected_with_their_reason(scans: dict[str, Scan]):
    reasons = {name: scan.reason for name, scan in scans.items() if isinstance(scan, Reject)}
    assert reasons == {
        "truncated.mp4": "truncated",
        "too_short.mp4": "too_short",
        "not_a_video.mp4": "unreadable",
    }


def test_captions_and_columns_arrive(clips_of: ClipsOf):
    for name in USABLE:
        clip = clips_of(name)[0]
        assert clip.caption == BY_NAME[name].caption
        listed = {"speed_px": BY_NAME[name].speed} if BY_NAME[name].listed else {}
        assert dict(clip.columns) == listed


def test_frames_come_at_their_times(clips_of: ClipsOf):
    for name in USABLE:
        ticks = frame_ticks(BY_NAME[name])
        for clip in clips_of(name):
            for number, pts in zip(clip.numbers, clip.pts, strict=True):
                meant = Fraction(ticks[number], 12000)
                assert abs(pts * clip.time_base - meant) <= clip.time_base / 2


def test_cuts_are_where_the_scenes_change(clips_of: ClipsOf):
    video = BY_NAME["cuts.mp4"]
    starts = [clip.numbers[0] for clip in clips_of("cuts.mp4")]
    assert starts == [0, video.scene_frames, 2 * video.scene_frames]


@pytest.mark.parametrize("video", VIDEOS, ids=lambda video: video.name)
def test_sizes_scale_and_crop_without_rounding(video: DemoVideo):
    target = DEMO_CONFIG.size
    scale = max(Fraction(new, old) for new, old in zip(target, video.size, strict=True))
    covered = cover_size(video.size, Fraction(1), target)
    assert covered == (video.size[0] * scale, video.size[1] * scale)
    assert all((side - new) % 2 == 0 for side, new in zip(covered, target, strict=True))


@pytest.mark.parametrize("name", USABLE)
def test_built_frames_show_the_scene_upright_in_place_and_in_time(name: str, clips_of: ClipsOf):
    video = BY_NAME[name]
    for clip in clips_of(name):
        (frames,) = read_clips([clip])
        assert isinstance(frames, np.ndarray)
        for slot in (0, 7, 16):
            scene, time = scene_at(video, clip.numbers[slot])
            shift, difference = compare(frames[slot].transpose(1, 2, 0), scene.frame(time))
            assert np.hypot(*shift) < 0.03  # pixels
            assert difference < 2  # grey levels: compression, and chroma at half resolution


def compare(built: np.ndarray, scene: np.ndarray) -> tuple[np.ndarray, float]:
    """Shift in pixels and mean difference in grey levels against a scaled and cropped picture."""
    height, width = DEMO_CONFIG.size
    scale = max(height / scene.shape[0], width / scene.shape[1])
    covered = round(scene.shape[1] * scale), round(scene.shape[0] * scale)
    picture = cv2.resize(scene, covered, interpolation=cv2.INTER_AREA)
    top, left = (covered[1] - height) // 2, (covered[0] - width) // 2
    picture = picture[top : top + height, left : left + width].astype(np.float32).mean(axis=2)
    mine = built.astype(np.float32).mean(axis=2)
    slopes = np.stack(np.gradient(picture), axis=-1).reshape(-1, 2)  # least squares: Lucas-Kanade
    shift = np.linalg.lstsq(slopes, (picture - mine).ravel(), rcond=None)[0]
    return shift, float(np.abs(mine - picture).mean())


@pytest.mark.parametrize("name", ["h264.mp4", "vp9.webm", "slow.mp4"])
def test_the_same_bytes_every_time(name: str, tmp_path: Path):
    video = replace(BY_NAME[name], seconds=Fraction(1, 4))
    path = tmp_path / name

    def written() -> Iterator[bytes]:
        for _ in range(2):
            write_video(video, path)
            yield path.read_bytes()

    first, second = written()
    assert first == second


def test_sources_are_named_for_a_build(demo_videos: list[str], monkeypatch, tmp_path: Path):
    monkeypatch.setattr("fluxshard.demo.videos.VIDEOS", [BY_NAME["too_short.mp4"]])
    manifest, folder = make_videos(tmp_path / "new" / "folder")
    assert Path(manifest).parent == Path(folder)
    assert {path.name for path in Path(folder).iterdir()} == {
        "listed.jsonl",
        "not_a_video.mp4",
        "too_short.mp4",
        "too_short.txt",
    }
