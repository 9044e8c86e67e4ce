import math
from dataclasses import replace

import pytest
import torch

from flow_cache import load_estimator, warp
from shards import UsageError
from tests.trainer.metrics.moving import MOTION, Known, frozen, moving
from trainer.metrics.motion import (
    measuring_estimator,
    motion_amount,
    motion_of,
    visible_share,
    warping_error,
)


def test_frames_that_move_as_a_whole_agree_along_their_motion() -> None:
    clips = moving()
    motion = motion_of(clips, Known())
    assert motion.flow.shape == (1, 3, 2, 48, 64)
    assert warping_error(clips, motion).item() < 1e-6
    assert motion_amount(motion).item() == pytest.approx(math.hypot(*MOTION))
    inside = (48 - MOTION[1]) * (64 - MOTION[0]) / (48 * 64)
    assert visible_share(motion).item() == pytest.approx(inside)


def test_the_articles_direction_would_be_wrong() -> None:
    """It samples I_{t−1} at p + F_{t−1→t}(p) and compares with I_t."""
    clips = moving()
    flow = torch.tensor(MOTION).float().view(1, 2, 1, 1).expand(3, -1, 48, 64)
    off = (clips[0, 1:] - warp(clips[0, :-1], flow)).abs()[..., 8:-8, 8:-8].mean()
    assert off > 0.03
    backward = replace(motion_of(clips, Known()), flow=-flow[None])
    assert warping_error(clips, backward).item() > 0.03


def test_differences_count_by_their_absolute_value() -> None:
    """A pixel that is off by 0.2 costs 0.2 in the figure; in the loss it costs 0.04."""
    clips = moving(2)
    clips[:, 1] += 0.2
    assert warping_error(clips, motion_of(clips, Known())).item() == pytest.approx(0.2, rel=1e-4)


def test_hidden_pixels_and_pairs_without_others_are_left_out() -> None:
    clips = moving()
    motion = motion_of(clips, Known())
    spoiled = clips.clone()
    spoiled[:, 0, :, :, -MOTION[0] :] += 0.5  # leaves the frame
    assert warping_error(spoiled, motion).item() < 1e-6
    spoiled = clips.clone()
    spoiled[:, 0] += 0.3  # pair 0-1 alone
    assert warping_error(spoiled, motion).item() == pytest.approx(0.1, rel=1e-4)
    motion.visible[:, 0] = False
    assert warping_error(spoiled, motion).item() < 1e-6
    motion.visible[:] = False
    assert math.isnan(warping_error(spoiled, motion).item())


def test_opencvs_flow_finds_the_motion_and_none_where_nothing_moves() -> None:
    clips, dis = torch.cat([moving(size=(64, 96)), frozen(moving(size=(64, 96)))]), "dis"
    estimator = measuring_estimator(dis, trained_with=["variational"])
    motion = motion_of(clips, estimator)
    amount, error = motion_amount(motion), warping_error(clips, motion)
    assert amount[0].item() == pytest.approx(math.hypot(*MOTION), rel=0.1)
    assert amount[1] == 0
    assert error[1] < 1e-6  # places are rounded
    assert error[0] < 0.01
    # What is made anew in every frame is not found again: its error says little.
    noise = torch.rand(1, 4, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    assert visible_share(motion_of(noise, estimator)) < 0.5 < 0.8 < visible_share(motion)[0]


def test_the_estimator_of_the_training_does_not_judge_it() -> None:
    assert measuring_estimator().name == "dis"
    with pytest.raises(UsageError, match=r"trained with the flow estimator 'dis:preset=fast'.*var"):
        measuring_estimator("dis:preset=fast", trained_with=["variational", "dis"])
    with pytest.raises(UsageError, match=r"'variational'.*--estimator dis"):
        measuring_estimator("variational", trained_with=["variational"])
    with pytest.raises(UsageError, match="unknown flow estimator 'nothing'"):
        measuring_estimator("nothing")


def test_frames_too_small_for_the_estimator_are_refused() -> None:
    with pytest.raises(UsageError, match="16x16 are too small for dis"):
        motion_of(torch.zeros(1, 2, 3, 16, 16), load_estimator("dis"))
