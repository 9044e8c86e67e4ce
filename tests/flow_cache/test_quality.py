import math

import numpy as np
import pytest
import torch

from flow_cache import FlowField, Pair, level_pairs
from flow_cache.quality import FIGURES, clip_quality
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


def test_figures_of_exact_flow() -> None:
    figures = clip_quality(FRAMES, exact_fields(), saturated=3)
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
    good, bad = clip_quality(FRAMES, exact), clip_quality(FRAMES, wrong)
    assert bad["fb_error_mean"] == pytest.approx(2 * math.hypot(2, 2), rel=0.05)
    assert bad["photometric_error"] > 3 * good["photometric_error"]
    assert bad["photometric_still"] == good["photometric_still"]


def test_only_the_shortest_stride_counts() -> None:
    assert clip_quality(FRAMES, exact_fields((1, 4))) == clip_quality(FRAMES, exact_fields((1,)))
    longer = clip_quality(FRAMES, exact_fields((2, 4)))
    shorter = clip_quality(FRAMES, exact_fields((1,)))
    assert longer["magnitude_mean"] > 1.8 * shorter["magnitude_mean"]


def test_one_direction_has_no_consistency() -> None:
    for direction in ("forward", "backward"):
        figures = clip_quality(FRAMES, exact_fields((1,), (direction,)))
        assert math.isnan(figures["fb_error_mean"])
        assert figures["photometric_error"] < 0.25 * figures["photometric_still"]


def test_nothing_to_average_is_not_zero() -> None:
    figures = clip_quality(FRAMES, {})
    assert all(math.isnan(figures[name]) for name in FIGURES if name != "saturated")
    hidden = {
        pair: FlowField(flow=field.flow, visible=torch.zeros_like(field.visible))
        for pair, field in exact_fields().items()
    }
    figures = clip_quality(FRAMES, hidden)
    assert figures["occluded_share"] == 1
    assert math.isnan(figures["photometric_error"])
    assert math.isnan(figures["fb_error_mean"])
