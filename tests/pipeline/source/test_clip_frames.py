import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.planning.clips import ClipRule
from pipeline.planning.scan import scan_video
from pipeline.records import Reject, Source
from pipeline.source import clip_frames
from pipeline.source.clip_frames import read_clips
from pipeline.source.content import SourceChanged, Stalled
from pipeline.source.decoder import Decoder
from pipeline.source.rgb import Picture
from shards.schema import Clip

SIZE = (32, 48)
Pictures = Callable[..., list[np.ndarray]]


def clips_of(path: str, rule: ClipRule) -> tuple[Clip, ...]:
    scan = scan_video(Source(path=path), rule, detector="none")
    assert not isinstance(scan, Reject), scan
    return scan[1]


def read_all(clips: Sequence[Clip]) -> list[np.ndarray]:
    read = list(read_clips(clips))
    assert not any(isinstance(frames, Reject) for frames in read), read
    return read  # type: ignore[return-value]


def straight(path: str, size: tuple[int, int] = SIZE, first: int | None = None) -> np.ndarray:
    """All frames of a video, or the first so many, decoded from the start."""
    with Decoder(path) as decoder:
        picture = Picture(size, decoder.sample_aspect)
        return np.stack([picture(frame) for frame in islice(decoder.frames(), first)])


def check_against_straight(
    path: str, rule: ClipRule, *, few: int = 4, first: int | None = None
) -> None:
    """In one pass, backwards and one by one: always the frames of a plain decode.

    Args:
        few: clips that are read backwards.
        first: clips from the start of the video that are read at all.
    """
    clips = clips_of(path, rule)[:first]
    frames = straight(path, first=clips[-1].numbers[-1] + 1)
    for clip, read in zip(clips, read_all(clips), strict=True):
        np.testing.assert_array_equal(read, frames[list(clip.numbers)])
    back = clips[:: -max(1, len(clips) // few)][:few]
    for clip, read in zip(back, read_all(back), strict=True):
        np.testing.assert_array_equal(read, frames[list(clip.numbers)])
        if few > 1:  # else it was read alone
            np.testing.assert_array_equal(read_all([clip])[0], read)


REAL = [
    "videos/awesome_movie.mov",
    "videos/bear-vp9.webm",
    "videos/bikes.mp4",
    "videos/fire2.mp4",
    "videos/flipping_a_pancake.mkv",
    "videos/flower.webm",
    "videos/friday.mp4",
    "videos/mmaction2_test.avi",
    "videos/nasa_13013.mp4",
    "videos/nasa_13013_hdr.mp4",
    "videos/sample_av1.mp4",
    "videos/test.ogv",
    "bad/corrupted.mp4",
    "bad/derived_size_change.ts",
    "bad/derived_trunc60_faststart.mp4",
    "bad/derived_trunc_flower.webm",
    "bad/discard_first_keyframe.mp4",
    "bad/sample_edit_list_only_preroll_sync_sample.mp4",
    "bad/sample_vvc.mp4",
    "bad/test_non_zero_start.mp4",
]


@pytest.mark.parametrize("name", REAL)
def test_clips_are_bit_equal_to_a_straight_decode(data_dir: Path, name: str) -> None:
    check_against_straight(str(data_dir / name), ClipRule(size=SIZE, frames=5, fps=None))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["videos/m3v1mp4.mp4", "bad/sample_edit_list_no_sync_frame_before_edit.mp4"]
)
def test_where_seeking_fails_decoding_starts_over(data_dir: Path, name: str) -> None:
    """One has keyframes after which frames are not exact, one refuses to seek to its start."""
    rule = ClipRule(size=SIZE, frames=30, fps=None)
    check_against_straight(str(data_dir / name), rule, few=1, first=12)


X264, X265 = "x264-params", "x265-params"
REFRESH = "keyint=24:intra-refresh=1:bframes=0"
OPEN_GOP = "open-gop=1:keyint=12:min-keyint=12:bframes=3:scenecut=0"


@pytest.mark.parametrize(
    ("name", "encoder", "options", "muxing"),
    [
        ("open.mp4", "libx264", {X264: OPEN_GOP}, None),
        ("open.mkv", "libx264", {X264: OPEN_GOP}, None),
        ("open_fragmented.mp4", "libx264", {X264: OPEN_GOP}, "frag_keyframe+empty_moov"),
        ("refresh.mp4", "libx264", {X264: "intra-refresh=1:keyint=12:bframes=2"}, None),
        ("refresh24.mp4", "libx264", {X264: REFRESH}, None),
        ("refresh24.mkv", "libx264", {X264: REFRESH}, None),
        ("deep.mp4", "libx264", {X264: "keyint=25:bframes=8:b-pyramid=normal"}, None),
        ("open265.mp4", "libx265", {X265: f"{OPEN_GOP}:log-level=none"}, None),
        ("open265.mkv", "libx265", {X265: f"{OPEN_GOP}:log-level=none"}, None),
        ("hidden.webm", "libvpx-vp9", {"g": "20", "lag-in-frames": "12", "cpu-used": "8"}, None),
        ("hidden8.webm", "libvpx", {"g": "20", "lag-in-frames": "12", "cpu-used": "8"}, None),
    ],
)
def test_hard_structures_are_bit_equal_too(
    write_video: Callable[..., str],
    moving_pictures: Pictures,
    name: str,
    encoder: str,
    options: dict[str, str],
    muxing: str | None,
) -> None:
    """Leading frames, no keyframes, fragments, hidden frames: seeks land well or are not used."""
    flags = {"movflags": muxing} if muxing else None
    pictures = moving_pictures(72, 64, 96)
    path = write_video(name, pictures, encoder=encoder, options=options, muxing=flags)
    check_against_straight(path, ClipRule(size=SIZE, frames=5, fps=None))


@pytest.mark.parametrize("shard", [1, 4, 16])
def test_where_a_refresh_is_marked_as_a_keyframe_no_clip_depends_on_the_shard(
    write_video: Callable[..., str], moving_pictures: Pictures, shard: int
) -> None:
    pictures = moving_pictures(96, 64, 96)
    path = write_video("refresh96.mp4", pictures, options={X264: REFRESH})
    clips, frames = clips_of(path, ClipRule(size=SIZE, frames=6, fps=None)), straight(path)
    assert len(clips) == 16
    for start in range(0, 16, shard):
        these = clips[start : start + shard]
        for clip, read in zip(these, read_all(these), strict=True):
            np.testing.assert_array_equal(read, frames[list(clip.numbers)])


def glyphs_of(picture: np.ndarray, centres: Sequence[int]) -> list[np.ndarray]:
    """The digits printed in the middle of `frames.webm`, at full size."""
    return [picture[0, 490:590, centre - 24 : centre + 24] for centre in centres]


def test_the_printed_frame_number_is_the_planned_one(data_dir: Path) -> None:
    """Each frame shows its number; digits are learned from the first ten."""
    path, full = str(data_dir / "videos/frames.webm"), (1080, 1080)
    digits = [glyphs_of(picture, [540])[0].astype(int) for picture in straight(path, full)[:10]]
    clips = clips_of(path, ClipRule(size=full, frames=9, fps=Fraction(12)))
    assert [n for clip in clips for n in clip.numbers] == [5 * k // 2 for k in range(36)]
    for clip, pictures in zip(clips, read_all(clips), strict=True):
        for number, picture in zip(clip.numbers, pictures, strict=True):
            centres = [540] if number < 10 else [514, 567]
            read = [
                int(np.argmin([np.abs(glyph - digit).sum() for digit in digits]))
                for glyph in glyphs_of(picture, centres)
            ]
            assert read == [int(digit) for digit in str(number)]


def test_repeated_frames_are_read_once_and_shown_twice(
    write_video: Callable[..., str], moving_pictures: Pictures
) -> None:
    path = write_video("steady.mp4", moving_pictures(12))
    clip = clips_of(path, ClipRule(size=SIZE, frames=12, fps=Fraction(30), max_repeated=0.5))[0]
    assert clip.repeated == 2
    frames = read_all([clip])[0]
    same = [np.array_equal(a, b) for a, b in pairwise(frames)]
    assert same == [a == b for a, b in pairwise(clip.numbers)]


def test_clips_of_several_videos_in_any_order(
    write_video: Callable[..., str], moving_pictures: Pictures
) -> None:
    one, two = (write_video(f"{i}.mp4", moving_pictures(20, seed=i)) for i in range(2))
    rule = ClipRule(size=SIZE, frames=4, fps=None)
    a, b = clips_of(one, rule), clips_of(two, rule)
    mixed = [a[3], b[0], a[0], a[1], b[4], b[1]]
    for clip, read in zip(mixed, read_all(mixed), strict=True):
        np.testing.assert_array_equal(read, straight(clip.path)[list(clip.numbers)])


def test_what_does_not_come_out_is_rejected_and_the_rest_goes_on(
    write_video: Callable[..., str], moving_pictures: Pictures
) -> None:
    path = write_video("changing.mp4", moving_pictures(20))
    clips = clips_of(path, ClipRule(size=SIZE, frames=5, fps=None))
    beyond = replace(clips[1], numbers=(95, 96), pts=(10**6, 10**6 + 1))
    first, lost, last = read_clips([clips[0], beyond, clips[2]])
    assert isinstance(first, np.ndarray)
    assert isinstance(last, np.ndarray)
    assert isinstance(lost, Reject)
    assert (lost.stage, lost.reason) == ("build", "unreadable")
    assert clips[1].key in lost.detail


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pictures held at each frame that any decoder gives out, while clips are read."""
    held: list[int] = []
    frames, keep = Decoder.frames, clip_frames._ClipReader._decode_missing
    readers: list[Any] = []

    def counted(decoder: Decoder) -> Any:
        for frame in frames(decoder):
            held.append(len(readers[-1]._held) if readers else 0)
            yield frame

    def seen(reader: Any, clip: Clip) -> None:
        readers.append(reader)
        keep(reader, clip)

    monkeypatch.setattr(Decoder, "frames", counted)
    monkeypatch.setattr(clip_frames._ClipReader, "_decode_missing", seen)
    return held


@pytest.fixture(scope="module")
def film(write_video: Callable[..., str], moving_pictures: Pictures) -> str:
    """200 frames, 25 a second, that cannot be sought in."""
    options = {"g": "10"}
    path = write_video("film.avi", moving_pictures(200), encoder="mpeg4", options=options)
    assert not clips_of(path, ClipRule(size=SIZE, frames=5, fps=None))[0].seekable
    return path


def check_read(clips: Sequence[Clip], path: str) -> None:
    frames = straight(path)
    for clip, read in zip(clips, read_all(clips), strict=True):
        np.testing.assert_array_equal(read, frames[list(clip.numbers)])


def windows(clip: Clip, starts: Sequence[int], length: int) -> list[Clip]:
    """Clips like one, of the frames from each start on."""
    return [
        replace(clip, numbers=(n := tuple(range(start, start + length))), pts=n) for start in starts
    ]


def test_overlapping_clips_are_read_in_one_pass_that_holds_little(
    film: str, decoded: list[int]
) -> None:
    (some, *_) = clips_of(film, ClipRule(size=SIZE, frames=5, fps=None))
    decoded.clear()
    check_read(windows(some, range(0, 180, 5), 20), film)
    assert len(decoded) == 200 + 195  # `straight`, then one pass to the last frame that is shown
    assert max(decoded) <= 20


@pytest.mark.parametrize("order", ["rate by rate", "backwards"])
def test_clips_in_any_order_are_read_in_one_pass(film: str, decoded: list[int], order: str) -> None:
    rates = [clips_of(film, ClipRule(size=SIZE, frames=5, fps=fps)) for fps in (None, Fraction(5))]
    clips = [*rates[0], *rates[1]] if order == "rate by rate" else rates[0][::-1]
    decoded.clear()
    check_read(clips, film)
    assert len(decoded) == 2 * 200


@pytest.mark.parametrize("room", [10, 60])
def test_what_does_not_fit_is_decoded_again(
    film: str, decoded: list[int], monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr(clip_frames, "HELD_BYTES", room * 3 * SIZE[0] * SIZE[1])
    clips = clips_of(film, ClipRule(size=SIZE, frames=5, fps=None))[::-1]
    decoded.clear()
    check_read(clips, film)
    assert max(decoded) <= room
    assert len(decoded) <= 200 + 200 * (200 // room)


def test_after_trust_in_seeking_is_lost_one_pass_does(
    write_video: Callable[..., str],
    moving_pictures: Pictures,
    decoded: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write_video("trusted.mp4", moving_pictures(100))
    (some, *_) = clips_of(path, ClipRule(size=SIZE, frames=5, fps=None))
    assert some.seekable
    decoded.clear()
    monkeypatch.setattr(Decoder, "seek", lambda *_: (_ for _ in ()).throw(LookupError))
    check_read(windows(some, range(0, 80, 5), 20), path)
    assert len(decoded) == 100 + 95


def test_clips_beyond_the_end_cost_no_pass_each(film: str, decoded: list[int]) -> None:
    (some, *_) = clips_of(film, ClipRule(size=SIZE, frames=5, fps=None))
    decoded.clear()
    read = list(read_clips(windows(some, range(195, 230, 5), 5)))
    assert [isinstance(frames, Reject) for frames in read] == [False] + 6 * [True]
    assert len(decoded) == 200


@pytest.mark.parametrize("when", ["before the first", "between two", "while the last is read"])
def test_nothing_comes_out_of_a_video_that_changed(
    write_video: Callable[..., str],
    moving_pictures: Pictures,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    when: str,
) -> None:
    path = str(shutil.copy(write_video("as_scanned.mp4", moving_pictures(20)), tmp_path))
    other = shutil.copy(write_video("other.mp4", moving_pictures(20)[::-1]), tmp_path)
    clips = clips_of(path, ClipRule(size=SIZE, frames=10, fps=None))
    read = read_clips(clips)
    if when == "before the first":
        os.replace(other, path)
    else:
        assert isinstance(next(read), np.ndarray)
    if when == "between two":
        os.replace(other, path)
    if when == "while the last is read":
        whole = clip_frames._ClipReader.read

        def replace_then_read(reader: Any, turn: int) -> np.ndarray:
            os.replace(other, path)
            return whole(reader, turn)

        monkeypatch.setattr(clip_frames._ClipReader, "read", replace_then_read)
    with pytest.raises(SourceChanged, match=r"as_scanned.mp4 is not the video .* scan it anew"):
        next(read)


def test_a_video_that_is_gone_is_no_reject(
    write_video: Callable[..., str], moving_pictures: Pictures, tmp_path: Path
) -> None:
    path = str(shutil.copy(write_video("here.mp4", moving_pictures(10)), tmp_path))
    read = read_clips(clips_of(path, ClipRule(size=SIZE, frames=5, fps=None)))
    assert isinstance(next(read), np.ndarray)
    Path(path).unlink()
    with pytest.raises(SourceChanged, match=r"here.mp4 is gone, .* bring that back"):
        next(read)


def test_what_stalls_is_no_reject(
    write_video: Callable[..., str], moving_pictures: Pictures
) -> None:
    path = write_video("late.mp4", moving_pictures(20))
    clip = clips_of(path, ClipRule(size=SIZE, frames=5, fps=None))[0]
    with pytest.raises(Stalled):
        list(read_clips([clip], timeout_s=0))


@pytest.mark.parametrize("name", ["bikes.mp4", "mmaction2_test.avi", "flower.webm"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_read_that_fails_is_no_reject(
    data_dir: Path, fail_reads: Callable[..., Any], name: str, share: float
) -> None:
    """Where the container can be sought in, and where it is read from the start."""
    clips = clips_of(str(data_dir / "videos" / name), ClipRule(size=SIZE, frames=9, fps=None))
    with fail_reads() as reads:
        list(read_clips(clips))
    with fail_reads(after=int(share * len(reads))):  # noqa: SIM117
        with pytest.raises(OSError, match="Input/output error"):
            list(read_clips(clips))
