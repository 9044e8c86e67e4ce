from dataclasses import fields, replace
from typing import Any

import pytest

from trainer.config import (
    FlowLossConfig,
    FluxFlowConfig,
    ModelConfig,
    NoiseConfig,
    OptimConfig,
    PyramidConfig,
    StreamConfig,
    TrainConfig,
)
from trainer.presets import PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid(name: str) -> None:
    assert isinstance(PRESETS[name](), TrainConfig)


@pytest.mark.parametrize(
    ("config", "values"),
    [
        (StreamConfig, {"batch": 0}),
        (StreamConfig, {"threads": 0}),
        (FluxFlowConfig, {"ratio": 1.5}),
        (FluxFlowConfig, {"count": -1}),
        (FluxFlowConfig, {"block": 0}),
        (PyramidConfig, {"ends": (0.1, 0.5, 2.0)}),
        (PyramidConfig, {"ends": (0.0, 2.0, 0.5)}),
        (PyramidConfig, {"ends": (0.0, 0.1, 0.2, 0.3)}),
        (PyramidConfig, {"sigma_max": 1.0}),
        (FlowLossConfig, {"weight": -1.0}),
        (FlowLossConfig, {"sigma_floor": 0.0}),
        (FlowLossConfig, {"max_hops": 0}),
        (NoiseConfig, {"std": 0.0}),
        (ModelConfig, {"dim": 30, "heads": 4}),
        (OptimConfig, {"learning_rate": 0.0}),
        (TrainConfig, {"steps": 0}),
        (TrainConfig, {"stream": StreamConfig(frames=18)}),
    ],
)
def test_bad_values_are_refused_by_name(config: type, values: dict[str, Any]) -> None:
    (name,) = values if len(values) == 1 else ("dim",)
    with pytest.raises(ValueError, match="frames" if name == "stream" else name):
        config(**values)


def test_frames_need_no_multiple_without_a_pyramid() -> None:
    config = replace(TrainConfig(), pyramid=PyramidConfig(enabled=False))
    assert replace(config, stream=StreamConfig(frames=17)).pyramid.coarsest == 1


def test_nothing_can_be_changed_after_birth() -> None:
    with pytest.raises(AttributeError):
        TrainConfig().seed = 1  # type: ignore[misc]
    assert len({field.name for field in fields(TrainConfig)}) == len(fields(TrainConfig))
