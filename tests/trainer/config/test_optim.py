from typing import Any

import pytest

from shards import UsageError
from trainer.config import OptimConfig


@pytest.mark.parametrize(
    "values",
    [
        {"learning_rate": 0.0},
        {"warmup_clips": -1},
        {"decay_clips": -1},
        {"ema_clips": -1},
        {"accumulate": 0},
    ],
    ids=str,
)
def test_bad_values_are_refused_by_name(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(values))):
        OptimConfig(**values)
