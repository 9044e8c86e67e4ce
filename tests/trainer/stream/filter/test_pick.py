"""Which samples clips give: whole, window by window, in buckets, at a frame rate by time stamps."""

import numpy as np
import pyarrow as pa
import pytest

from trainer.config import StreamConfig
from trainer.stream.filter.pick import left_out, pick


@pytest.mark.parametrize(
    ("frames", "starts"),
    [(4, [0, 4, 8, 12]), (5, [0, 4, 8, 12]), (16, [0]), (9, [0, 8]), (3, [0, 4, 8, 12])],
)
def test_windows_begin_where_all_levels_of_flow_do(frames: int, starts: list[int]) -> None:
    table = pa.table({"frames": [17], "height": [2], "width": [2]})
    config = StreamConfig(frames=frames, windows="all")
    ((places, firsts),) = pick(table, np.arange(1), config)
    assert firsts.tolist() == starts
    assert places.tolist() == [0] * len(starts)


def test_clips_that_are_too_short_give_no_window() -> None:
    table = pa.table({"frames": [3, 8, 4], "height": [2] * 3, "width": [2] * 3})
    ((places, firsts),) = pick(table, np.arange(3), StreamConfig(frames=4, windows="all"))
    assert (places.tolist(), firsts.tolist()) == ([1, 1, 2], [0, 4, 0])


def test_each_bucket_has_windows_of_its_own_length() -> None:
    table = pa.table({"frames": [17, 8, 3], "height": [4, 4, 4], "width": [4, 4, 4]})
    config = StreamConfig(buckets=("4x4x16", "2x2x4"), windows="all", fill="all")
    long, short = pick(table, np.arange(3), config)
    assert (long[0].tolist(), long[1].tolist()) == ([0], [0])
    assert (short[0].tolist(), short[1].tolist()) == ([0] * 4 + [1] * 2, [0, 4, 8, 12, 0, 4])


def timed(*clips: tuple[int, int], size: int = 2) -> pa.Table:
    """Clips of so many frames, at so many a second."""
    return pa.table(
        {
            "frames": [frames for frames, _ in clips],
            "height": [size] * len(clips),
            "width": [size] * len(clips),
            "pts": pa.array([[*range(frames)] for frames, _ in clips], pa.list_(pa.int64())),
            "time_base_num": [1] * len(clips),
            "time_base_den": [rate for _, rate in clips],
            "fps_num": [rate for _, rate in clips],
            "fps_den": [1] * len(clips),
        }
    )


def test_at_a_frame_rate_clips_count_by_how_long_they_last() -> None:
    table = timed((17, 60), (21, 60), (17, 24), (17, 10), (4, 12), (5, 12))
    config = StreamConfig(frames=5, fps=12)
    ((places, firsts),) = pick(table, np.arange(6), config)
    assert (places.tolist(), firsts.tolist()) == ([1, 2, 5], [0, 0, 0])
    assert left_out(table, np.arange(6), config) == {
        "too slow for 12 fps": 1,
        "too short for 5 frames at 12 fps": 2,
    }
    assert left_out(table, np.array([1, 2, 5]), config) == {}
    assert left_out(table, np.arange(6), StreamConfig(frames=5)) == {}
    ((places, _),) = pick(table.slice(2), np.array([1, 0]), config)
    assert places.tolist() == [0], "a slice of a table has its own rows"


def test_at_a_frame_rate_windows_follow_each_other() -> None:
    table = timed((60, 60), (17, 12))
    config = StreamConfig(frames=5, fps=12, windows="all")
    ((places, firsts),) = pick(table, np.arange(2), config)
    assert places.tolist() == [0] * 2 + [1] * 4
    assert firsts.tolist() == [0, 20, 0, 4, 8, 12]
    ((none, _),) = pick(timed((4, 12)), np.arange(1), config)
    assert len(none) == 0


def test_at_a_frame_rate_buckets_take_what_lasts_long_enough() -> None:
    table = timed((41, 60), (21, 60), (17, 60), (17, 10), size=4)
    config = StreamConfig(buckets=("4x4x9", "4x4x5"), fps=12)
    long, short = (places.tolist() for places, _ in pick(table, np.arange(4), config))
    assert (long, short) == ([0], [1])
    assert left_out(table, np.arange(4), config) == {
        "too slow for 12 fps": 1,
        "too short for every bucket": 1,
    }
