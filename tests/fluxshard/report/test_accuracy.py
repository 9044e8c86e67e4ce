"""Stored flow is scored against the truth over the right pixels."""

import math

import pytest
import torch

from flow_cache import FlowField
from fluxshard.demo.truth import true_flow
from fluxshard.report.accuracy import Score, error_map, score, score_clip, score_layer
from fluxshard.report.gallery import Gallery
from shards.index import Dataset


def field(flow: list, visible: list) -> FlowField:
    return FlowField(
        flow=torch.tensor(flow, dtype=torch.float32).view(1, 2, 1, -1),
        visible=torch.tensor(visible).view(1, 1, -1),
    )


def test_error_is_counted_where_the_point_is_truly_visible():
    true = field([3, 0, 1, 9, 4, 0, 0, 9], [True, True, True, False])
    stored = field([0, 0, 1, 0, 0, 0, 2, 0], [True, False, True, False])
    assert error_map(stored, true).tolist() == [[5, 0, 2, pytest.approx(math.hypot(9, 9))]]
    scored = score(stored, true)
    assert scored == Score(error_px=7, length_px=6, pixels=4, hidden=1, flagged=2, right=1)
    assert scored.end_point_error == pytest.approx(7 / 3)
    assert scored.length == pytest.approx(2)
    assert scored.precision == 0.5
    assert scored.recall == 1


def test_scores_add_up_and_nothing_is_not_a_number():
    one = Score(error_px=1, length_px=2, pixels=3, hidden=1, flagged=2, right=1)
    assert one + Score() == one
    assert (one + one).end_point_error == one.end_point_error
    assert (one + one).pixels == 6
    empty = Score()
    for value in (empty.end_point_error, empty.length, empty.precision, empty.recall):
        assert math.isnan(value)


def test_the_truth_itself_has_no_error(demo_dataset: str):
    view = Gallery(Dataset(demo_dataset)).view(0)
    for pair in view.fields:
        view.fields[pair] = true_flow(view.clip, pair)
    for scored in score_clip(view, true_flow).values():
        assert scored.end_point_error == 0
        assert scored.precision == scored.recall == 1


@pytest.mark.parametrize("layer", ["dis", "variational"])
def test_stored_flow_of_known_motion_is_close_to_it(layer: str, demo_dataset: str):
    """From compressed sources; a wrong frame or sign would cost as much as the motion is long."""
    gallery = Gallery(Dataset(demo_dataset), layer)
    scores = score_layer(gallery, range(len(gallery)), true_flow)
    assert set(scores.videos) == {"h264.mp4", "fast.webm", "rotated.mp4"}
    assert scores.clips == len(gallery)
    assert set(scores.total) == {1, 2, 4}
    for by_level in (scores.total, *scores.videos.values()):
        for scored in by_level.values():
            assert scored.end_point_error < scored.length / 3
            assert scored.precision > 0.3
            assert scored.recall > 0.3
    summed = sum((by_level[1] for by_level in scores.videos.values()), Score())
    assert summed.end_point_error == pytest.approx(scores.total[1].end_point_error)
