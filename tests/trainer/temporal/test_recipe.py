from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from trainer.config import FluxFlowConfig, PyramidConfig, StreamConfig, TrainConfig
from trainer.temporal.recipe import draw_sample, draw_stage
from trainer.temporal.stages import stages

CONFIG = TrainConfig(stream=StreamConfig(frames=8))
STAGES = stages(CONFIG.pyramid)


def test_stages_are_drawn_evenly_and_by_batch_number() -> None:
    drawn = Counter(draw_stage(CONFIG, batch).number for batch in range(3000))
    # Five standard deviations of a third of 3000.
    assert all(abs(drawn[n] - 1000) < 5 * (3000 * 2 / 9) ** 0.5 for n in (1, 2, 3))
    assert draw_stage(CONFIG, 17) == draw_stage(CONFIG, 17)
    other = replace(CONFIG, seed=1)
    assert [draw_stage(CONFIG, b) for b in range(20)] != [draw_stage(other, b) for b in range(20)]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("before_stride", [False, True])
def test_a_sample_is_a_function_of_its_position(stage, before_stride: bool) -> None:
    config = replace(CONFIG, fluxflow=FluxFlowConfig(before_stride=before_stride, ratio=0.5))
    for position in range(200):
        draw = draw_sample(config, position, stage, stored_frames=17)
        again = draw_sample(config, position, stage, stored_frames=17)
        assert draw.sigma == again.sigma
        assert draw.plan.src_index.tolist() == again.plan.src_index.tolist()
        assert stage.end <= draw.sigma <= stage.start
        assert draw.plan.start in (0, 4, 8)
        assert len(draw.plan) == 8 // stage.stride
        frames = draw.plan.src_index
        assert draw.plan.start <= frames.min()
        assert frames.max() < draw.plan.start + 8
        if not before_stride:
            assert (frames % stage.stride == 0).all()


def test_positions_differ_in_all_that_is_drawn() -> None:
    draws = [draw_sample(CONFIG, p, STAGES[0], stored_frames=17) for p in range(300)]
    assert len({draw.sigma for draw in draws}) == 300
    starts = Counter(draw.plan.start for draw in draws)
    assert all(abs(starts[s] - 100) < 5 * (300 * 2 / 9) ** 0.5 for s in (0, 4, 8))
    moved = np.mean([draw.plan.moved > 0 for draw in draws])  # two frames: half of the shuffles
    assert abs(moved - 0.5) < 5 * 0.5 / 300**0.5


def test_a_clip_of_just_the_window_starts_at_its_beginning() -> None:
    assert draw_sample(CONFIG, 3, STAGES[0], stored_frames=8).plan.start == 0
    assert draw_sample(CONFIG, 3, STAGES[0], stored_frames=11).plan.start == 0


def test_without_pyramid_and_shuffle_the_clip_is_straight() -> None:
    config = replace(
        CONFIG, pyramid=PyramidConfig(enabled=False), fluxflow=FluxFlowConfig(mode="off")
    )
    (stage,) = stages(config.pyramid)
    starts = set()
    for position in range(100):
        plan = draw_sample(config, position, stage, stored_frames=10).plan
        assert plan.moved == 0
        starts.add(plan.start)
    assert starts == {0, 1, 2}
