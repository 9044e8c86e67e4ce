"""Rows: every stage from its start to its end, given slots at 0; some cannot be given."""

import math

import numpy as np
import pytest

from shards import UsageError
from trainer.config import ProcessConfig, PyramidConfig
from trainer.sample.schedule import check_given, chunk_starts, schedule

PLAIN, PYRAMID = PyramidConfig(enabled=False), PyramidConfig()
FLOW = ProcessConfig(kind="flow")


def test_without_a_pyramid_every_slot_goes_from_the_highest_level_to_0() -> None:
    rows = schedule(FLOW, PLAIN, 5, 4)
    assert [row.here.tolist() for row in rows] == [[level] * 5 for level in (math.inf, 3, 1, 1 / 3)]
    assert [row.there.tolist() for row in rows] == [[level] * 5 for level in (3, 1, 1 / 3, 0)]
    assert not any(row.renoise or row.given.any() for row in rows)


@pytest.mark.parametrize("given", [(0,), (2,), (0, 4), range(3)])
def test_given_slots_are_at_0_throughout(given: tuple[int, ...]) -> None:
    """Image to video, interpolation, long video: one set of slots and nothing else."""
    without = schedule(FLOW, PLAIN, 5, 4)
    for row, plain in zip(schedule(FLOW, PLAIN, 5, 4, given), without, strict=True):
        assert np.flatnonzero(row.given).tolist() == list(given)
        for levels, others in ((row.here, plain.here), (row.there, plain.there)):
            assert not levels[row.given].any()
            assert np.array_equal(levels[~row.given], others[~row.given])


@pytest.mark.parametrize(("slots", "counts"), [(16, (4, 8, 16)), (17, (5, 9, 17))])
def test_stages_follow_each_other_at_the_levels_that_renoising_needs(
    slots: int, counts: tuple[int, ...]
) -> None:
    rows = schedule(FLOW, PYRAMID, slots, 7, (8,))
    assert [row.stage.number for row in rows] == [3, 3, 3, 2, 2, 1, 1]
    assert [row.renoise for row in rows] == [False, False, False, True, False, True, False]
    assert [len(row.here) for row in rows[::3]] == list(counts)
    assert [np.flatnonzero(row.given).item() for row in rows[::3]] == [2, 4, 8]
    for ended, began in ((rows[2], rows[3]), (rows[4], rows[5])):
        assert began.here.max() == pytest.approx(math.sqrt(2) * ended.there.max())
    assert rows[-1].there.max() == 0


def test_what_no_stage_can_have_is_refused() -> None:
    with pytest.raises(UsageError, match=r"frame 6 cannot be given.*every 4th.*as frame 4 or 8"):
        schedule(FLOW, PYRAMID, 16, 6, (0, 6))
    with pytest.raises(UsageError, match="as frame 12, or train without"):
        check_given((15,), 16, 4)  # 16 would be another clip's
    with pytest.raises(UsageError, match="clips have frames 0 to 15"):
        check_given((16,), 16, 1)
    with pytest.raises(UsageError, match="steps is 2; the pyramid has 3 stages"):
        schedule(FLOW, PYRAMID, 16, 2)


def test_long_videos_are_windows_that_overlap() -> None:
    assert chunk_starts(128, 16, 8) == tuple(range(0, 120, 8))  # FVDM's: 16 and fourteen times 8
    assert chunk_starts(16, 16, 0) == chunk_starts(9, 16, 8) == (0,)
    for frames in range(17, 60):
        starts = chunk_starts(frames, 16, 5)
        assert starts[-1] + 5 < frames <= starts[-1] + 16  # all of them, and no window for nothing
    for overlap in (0, 16):
        with pytest.raises(UsageError, match=f"overlap is {overlap}"):
            chunk_starts(17, 16, overlap)
