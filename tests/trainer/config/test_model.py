from typing import Any

import pytest

from shards import UsageError
from trainer.config import ConditioningConfig, ModelConfig


@pytest.mark.parametrize(
    "values",
    [
        {"dim": 30, "heads": 4},
        {"depth": 0},
        {"window": -1},
        {"time_encoding": -0.5},
        {"arguments": "{}"},  # of no family
        {"arguments": "[1]", "family": "WanTransformer3DModel"},
        {"arguments": "{", "family": "WanTransformer3DModel"},
        {"pretrained": "a/b", "family": "WanTransformer3DModel"},
        {"window": 2, "pretrained": "a/b"},
        {"time_encoding": 0.5, "family": "WanTransformer3DModel"},
    ],
    ids=str,
)
def test_bad_values_are_refused_by_name(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(values))):
        ModelConfig(**values)


def test_the_arguments_of_a_family_are_json() -> None:
    config = ModelConfig(family="WanTransformer3DModel", arguments='{"num_layers": 2}')
    assert config.settings() == {"num_layers": 2}
    assert not config.ours
    assert ModelConfig().ours


@pytest.mark.parametrize(
    "values",
    [
        {"text": "a", "embeddings": "b", "width": 4},
        {"embeddings": "b"},
        {"width": 4},
        {"labels": "kind"},
        {"classes": 3},
        {"classes": -1, "labels": "kind"},
        {"length": 0},
        {"dropout": 1.5},
        {"cache_mib": -1},
    ],
    ids=str,
)
def test_bad_conditions_are_refused_by_name(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(values))):
        ConditioningConfig(**values)
