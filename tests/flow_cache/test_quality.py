import math

import numpy as np
import pytest
import torch

from flow_cache import FlowField, Pair, level_pairs
from flow_cache.quality import FIGURES, clip_quality, measure_round_trip
from fluxshard.demo.scenes import random_scene

SCENE = random_scene(6, (64, 96))
FRAMES = torch.from_numpy(SCENE.clip(range(5)))


def exact_fields(
    levels: tuple[int, ...] = (1, 2), directions: tuple[str, ...] = ("forward", "backward")
) -> dict[Pair, FlowField]:
    return {
        pair: FlowField(
            flow=torch.from_numpy(SCENE.flow(*pair))[None],
            visible=torch.from_numpy(SCENE.visible(*pair))[None],
        )
        for pair in level_pairs(5, levels, directions)
    }


def trips(fields: dict[Pair, FlowField]) -> dict[Pair, float | None]:
    return {
        (i, j): measure_round_trip(field, fields[j, i].flow).mean
        for (i, j), field in fields.items()
        if (j, i) in fields
    }


def figures_of(fields: dict[Pair, FlowField], saturated: int = 0) -> dict[str, float]:
    return clip_quality(FRAMES, fields, trips(fields), saturated)


def test_figures_of_exact_flow() -> None:
    figures = figures_of(exact_fields(), saturated=3)
    assert tuple(figures) == FIGURES
    flow = np.stack([SCENE.flow(k, k + 1) for k in range(4)])
    visible = np.stack([SCENE.visible(k, k + 1) for k in range(4)])
    magnitude = np.hypot(flow[:, 0], flow[:, 1])
    assert figures["magnitude_mean"] == pytest.approx(magnitude.mean(), rel=1e-5)
    assert figures["magnitude_p95"] == pytest.approx(np.quantile(magnitude, 0.95), rel=1e-2)
    assert figures["occluded_share"] == pytest.approx(1 - visible.mean(), rel=1e-5)
    assert figures["fb_error_mean"] < 0.05
    assert figures["photometric_error"] < 0.25 * figures["photometric_still"]
    assert figures["saturated"] == 3


def test_wrong_flow_shows_in_the_figures() -> None:
    exact = exact_fields()
    wrong = {
        pair: FlowField(flow=field.flow + 2, visible=field.visible) for pair, field in exact.items()
    }
    good, bad = figures_of(exact), figures_of(wrong)
    assert bad["fb_error_mean"] == pytest.approx(2 * math.hypot(2, 2), rel=0.05)
    assert bad["photometric_error"] > 3 * good["photometric_error"]
    assert bad["photometric_still"] == good["photometric_still"]


def test_only_the_shortest_stride_counts() -> None:
    assert figures_of(exact_fields((1, 4))) == figures_of(exact_fields((1,)))
    longer = figures_of(exact_fields((2, 4)))
    shorter = figures_of(exact_fields((1,)))
    assert longer["magnitude_mean"] > 1.8 * shorter["magnitude_mean"]


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_consistency_needs_a_round_trip_but_not_both_fields(direction: str) -> None:
    both, fields = exact_fields((1,)), exact_fields((1,), (direction,))
    unknown = clip_quality(FRAMES, fields, dict.fromkeys(fields))
    assert math.isnan(unknown["fb_error_mean"])
    assert unknown["photometric_error"] < 0.25 * unknown["photometric_still"]
    known = clip_quality(FRAMES, fields, trips(both))
    of_visible = [(trips(both)[pair], int(field.visible.sum())) for pair, field in fields.items()]
    mean = np.average([t for t, _ in of_visible], weights=[n for _, n in of_visible])
    assert known["fb_error_mean"] == pytest.approx(mean)


def test_a_round_trip_is_measured_where_something_is_seen() -> None:
    flow = torch.zeros(1, 2, 4, 6)
    flow[:, 0] = 1
    visible = torch.ones(1, 4, 6, dtype=torch.bool)
    visible[..., 0] = False
    back = torch.zeros(1, 2, 4, 6)
    back[:, 1, :, 3:] = 2  # arrives at columns 3 to 5: from columns 2 to 5 of 1 to 5
    trip = measure_round_trip(FlowField(flow=flow, visible=visible), back)
    assert trip.mean == pytest.approx((1 + 4 * math.sqrt(5)) / 5)
    assert trip.rms == pytest.approx(math.sqrt((1 + 4 * 5) / 5))
    unseen = measure_round_trip(FlowField(flow=flow, visible=visible & False), back)
    assert math.isnan(unseen.mean)
    assert math.isnan(unseen.rms)


def test_nothing_to_average_is_not_zero() -> None:
    figures = figures_of({})
    assert all(math.isnan(figures[name]) for name in FIGURES if name != "saturated")
    hidden = {
        pair: FlowField(flow=field.flow, visible=torch.zeros_like(field.visible))
        for pair, field in exact_fields().items()
    }
    figures = figures_of(hidden)
    assert figures["occluded_share"] == 1
    assert math.isnan(figures["photometric_error"])
    assert math.isnan(figures["fb_error_mean"])
