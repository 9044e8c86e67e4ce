from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.planning.clips import ClipRule, Grid, clip_key, plan_clips
from pipeline.records import Reject, Source, Video
from shards.schema import Clip

MS = Fraction(1, 1000)


def grid(times: list[int], end: int, time_base: Fraction, fps: Fraction) -> list[int]:
    slots = Grid(times, end, time_base, fps)
    return [slots.frame(k) for k in range(slots.slots)]


def rule_of(frames: int, fps: Fraction | None, max_repeated: float = 0.25) -> ClipRule:
    return ClipRule(size=(32, 48), frames=frames, fps=fps, max_repeated=max_repeated)


def video_of(times: list[int], end: int, time_base: Fraction = MS) -> Video:
    return Video(
        path="/in/Señor Río. v2.mp4",
        sha256="ab" * 32,
        size_bytes=1,
        container="mov",
        codec="h264",
        pixel_format="yuv420p",
        stream=0,
        time_base=time_base,
        stored=(64, 64),
        sample_aspect=Fraction(1),
        rotation=0,
        mirrored=False,
        average_rate=None,
        full_range=False,
        matrix=2,
        transfer=2,
        frames=len(times),
        start_pts=times[0],
        end_pts=end,
    )


def plan(
    times: list[int],
    end: int,
    rule: ClipRule,
    shots: list[range] | None = None,
    source: Source | None = None,
) -> tuple[tuple[Clip, ...], int] | Reject:
    shots = shots or [range(len(times))]
    lost = len(times) - sum(map(len, shots))
    source = source or Source(path="x")
    return plan_clips(video_of(times, end), source, times, shots, rule, damaged=lost)


def clips_of(planned: tuple[tuple[Clip, ...], int] | Reject) -> tuple[Clip, ...]:
    assert not isinstance(planned, Reject), planned
    return planned[0]


@given(
    rate=st.sampled_from([Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(60)]),
    time_base=st.sampled_from([MS, Fraction(1, 90000), Fraction(1, 12800), Fraction(1, 600)]),
    first=st.integers(0, 100),
    frames=st.integers(1, 100),
)
def test_sampling_at_the_source_rate_takes_every_frame_once(
    rate: Fraction, time_base: Fraction, first: int, frames: int
) -> None:
    """However the container rounds times to its ticks, and wherever the shot starts."""
    times = [round((first + i) / (rate * time_base)) for i in range(frames + 1)]
    assert grid(times[:-1], times[-1], time_base, rate) == list(range(frames))


@given(
    steps=st.lists(st.integers(1, 200), min_size=1, max_size=40),
    fps=st.fractions(min_value=1, max_value=60, max_denominator=1001),
)
def test_a_slot_shows_the_last_frame_that_has_begun(steps: list[int], fps: Fraction) -> None:
    times = [sum(steps[:i]) for i in range(len(steps))]
    end = sum(steps)
    chosen = grid(times, end, MS, fps)
    middle = sorted(steps)
    tolerance = min(Fraction(1), Fraction(middle[(len(middle) - 1) // 2], 2))
    for slot, index in enumerate(chosen):
        now = slot * 1000 / fps + tolerance
        assert now < end
        assert times[index] <= now
        assert index == len(times) - 1 or times[index + 1] > now
    assert len(chosen) * 1000 / fps + tolerance >= end


def test_a_variable_rate_is_resampled_by_time() -> None:
    times = [0, 100, 110, 120, 130, 400]
    assert grid(times, 500, MS, Fraction(10)) == [0, 1, 4, 4, 5]


def test_ticks_as_coarse_as_frames_round_to_the_nearest_frame() -> None:
    assert grid(list(range(15)), 15, Fraction(1, 15), Fraction(12))[:5] == [0, 1, 3, 4, 5]


def test_clips_follow_each_other_and_stay_inside_their_shot() -> None:
    times = [40 * i for i in range(30)]
    rule = rule_of(4, None)
    clips = clips_of(plan(times, 1200, rule, [range(10), range(10, 13), range(13, 30)]))
    assert [clip.numbers for clip in clips] == [
        (0, 1, 2, 3),
        (4, 5, 6, 7),
        (13, 14, 15, 16),
        (17, 18, 19, 20),
        (21, 22, 23, 24),
        (25, 26, 27, 28),
    ]
    assert [clip.shot for clip in clips] == [0, 0, 2, 2, 2, 2]
    assert [clip.key[-5:] for clip in clips] == [f"{i:05d}" for i in range(6)]
    assert all(clip.pts == tuple(times[n] for n in clip.numbers) for clip in clips)
    assert {clip.fps for clip in clips} == {Fraction(25)}


def test_the_grid_of_a_shot_goes_on_from_clip_to_clip() -> None:
    times = [40 * i for i in range(50)]
    clips = clips_of(plan(times, 2000, rule_of(5, Fraction(10))))
    slots = [number for clip in clips for number in clip.numbers]
    assert slots == [5 * k // 2 for k in range(20)]
    assert {clip.fps for clip in clips} == {Fraction(10)}


def test_caption_and_columns_travel() -> None:
    source = Source(path="x", caption="a dog", columns={"label": 3})
    clip, *_ = clips_of(plan([0, 40, 80], 120, rule_of(2, None), source=source))
    assert (clip.caption, clip.columns) == ("a dog", {"label": 3})


def test_a_clip_with_too_many_repeats_is_dropped() -> None:
    times = [*range(0, 400, 100), 1000, *range(1100, 1500, 100)]
    rule = rule_of(5, Fraction(10), max_repeated=0.25)
    planned = plan(times, 1500, rule)
    clips = clips_of(planned)
    assert not isinstance(planned, Reject)
    assert planned[1] == 1
    assert [clip.repeated for clip in clips] == [1, 0]
    loose = clips_of(plan(times, 1500, replace(rule, max_repeated=0.8)))
    assert [clip.repeated for clip in loose] == [1, 4, 0]


def test_frames_that_are_never_shown_are_not_taken() -> None:
    clips = clips_of(plan([0, 40, 40, 80, 120], 160, rule_of(4, None)))
    assert clips[0].numbers == (0, 2, 3, 4)
    assert clips[0].pts == (0, 40, 80, 120)


@pytest.mark.parametrize(
    ("times", "end", "rule", "shots", "reason", "words"),
    [
        (
            [0, 40],
            80,
            rule_of(3, None),
            None,
            "too_short",
            "gives 2 frames, a clip",
        ),
        (
            [0, 40],
            80,
            rule_of(3, Fraction(10)),
            None,
            "too_short",
            "at 10 fps",
        ),
        ([0], 40, rule_of(2, None), None, "too_short", "gives 1 frames"),
        (
            [0, 500],
            1000,
            rule_of(5, Fraction(24)),
            None,
            "repeated_frames",
            "2 fps",
        ),
        (
            [0, 40, 80, 120],
            160,
            rule_of(2, None),
            [range(3, 4)],
            "damaged",
            "3 of 4",
        ),
    ],
)
def test_a_video_without_clips_says_why(
    times: list[int], end: int, rule: ClipRule, shots: list[range], reason: str, words: str
) -> None:
    reject = plan(times, end, rule, shots)
    assert isinstance(reject, Reject)
    assert (reject.stage, reject.reason) == ("clips", reason)
    assert words in reject.detail


def test_frames_that_mix_shots_are_not_called_damaged() -> None:
    times = [0, 40, 80, 120]
    video, source = video_of(times, 160), Source(path="x")
    reject = plan_clips(video, source, times, [range(3, 4)], rule_of(2, None))
    assert isinstance(reject, Reject)
    assert (reject.reason, "damaged" in reject.detail) == ("too_short", False)


@given(st.text(min_size=1))
def test_keys_are_short_ascii_without_dots(stem: str) -> None:
    key = clip_key(f"/videos/{stem}.mp4", "f" * 64, 7)
    assert key.isascii()
    assert set(key) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
    assert len(key) <= 24 + 1 + 12 + 1 + 5
    assert not key.startswith(("-", "_"))


def test_key_reads_like_its_video() -> None:
    assert clip_key("/in/Señor Río. v2.mp4", "ab" * 32, 0) == "Senor_Rio_v2-abababababab-00000"
    assert clip_key("/in/視頻.mp4", "ab" * 32, 12) == "video-abababababab-00012"


@given(
    steps=st.lists(st.one_of(st.integers(0, 100), st.integers(0, 2**59)), min_size=1, max_size=16),
    fps=st.sampled_from([None, Fraction(12), Fraction(10**6), Fraction(1, 1000)]),
    repeats=st.sampled_from([0.0, 0.25, 0.7]),
    frames=st.integers(2, 5),
)
def test_any_times_are_planned_with_work_bounded_by_the_frames(
    steps: list[int], fps: Fraction | None, repeats: float, frames: int
) -> None:
    """Also where a frame stands for 10^18 slots: they are never walked through."""
    times = [sum(steps[:i]) for i in range(len(steps))]
    planned = plan(times, sum(steps), rule_of(frames, fps, repeats))
    if isinstance(planned, Reject):
        return
    clips, dropped = planned
    assert dropped >= 0
    assert 1 <= len(clips) <= frames * len(times)
    for clip in clips:
        assert len(clip.numbers) == frames
        assert list(clip.numbers) == sorted(clip.numbers)
        assert clip.repeated == frames - len(set(clip.numbers)) <= repeats * frames
    if fps is None:
        assert dropped == 0


@given(
    steps=st.lists(st.integers(1, 500), min_size=1, max_size=30),
    fps=st.fractions(min_value=1, max_value=60, max_denominator=1001),
    repeats=st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    frames=st.integers(2, 6),
)
def test_stepping_over_a_standing_frame_loses_no_clip(
    steps: list[int], fps: Fraction, repeats: float, frames: int
) -> None:
    times = [sum(steps[:i]) for i in range(len(steps))]
    slots = grid(times, sum(steps), MS, fps)
    chunks = [slots[i : i + frames] for i in range(0, len(slots) - frames + 1, frames)]
    kept = [tuple(c) for c in chunks if frames - len(set(c)) <= repeats * frames]
    kept = [c for n, c in enumerate(kept) if n == 0 or c != kept[n - 1]]  # one frame that stands
    rule = rule_of(frames, fps, repeats)
    assert [chosen for chosen, _ in Grid(times, sum(steps), MS, fps).clips(rule)] == kept


def test_no_frame_is_repeated_through_a_gap() -> None:
    """The frame before it shows for a typical step; what comes after is used as well."""
    times = [*range(0, 400, 40), *range(10**12, 10**12 + 400, 40)]
    rule = rule_of(3, Fraction(25), max_repeated=1.0)
    clips = clips_of(plan(times, times[-1] + 10**15, rule, [range(10), range(10, 20)]))
    slots = [number for clip in clips for number in clip.numbers]
    assert slots == [*range(9), *range(10, 19)]


@pytest.mark.parametrize(
    ("times", "time_base", "words"),
    [
        ([0, 1, 2], Fraction(1, 3 * 10**9), "the time base is 1/3000000000 s"),
        ([0, 1, 2], Fraction(2**31, 10**9 + 7), "the time base is 2147483648/1000000007 s"),
        ([0, 2**62, 2**63], MS, "beyond 64 bits"),
        ([0, 10**9, 2 * 10**9], MS, "1/1000000 frames a second are more or fewer than"),
    ],
)
def test_times_that_the_index_or_a_clip_cannot_hold_are_a_reject(
    times: list[int], time_base: Fraction, words: str
) -> None:
    video = video_of(times, times[-1] + 1, time_base)
    reject = plan_clips(video, Source(path="x"), times, [range(3)], rule_of(2, None))
    assert isinstance(reject, Reject)
    assert (reject.stage, reject.reason) == ("clips", "timestamps")
    assert words in reject.detail


def test_one_frame_an_hour_is_a_clip_like_others() -> None:
    times = [3_600_000 * i for i in range(6)]
    clips = clips_of(plan(times, times[-1] + 40, rule_of(3, None)))
    assert [clip.fps for clip in clips] == [Fraction(1, 3600)] * 2
    reject = plan(times, times[-1] + 40, rule_of(3, Fraction(12)))
    assert isinstance(reject, Reject)
    assert reject.reason == "repeated_frames"
    assert "about 0.000278 fps" in reject.detail
