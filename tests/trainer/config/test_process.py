from typing import Any

import pytest

from shards import UsageError
from trainer.config import ProcessConfig


@pytest.mark.parametrize(
    "values",
    [
        {"std": 0.0},
        {"sigma_data": 0.0},
        {"per_slot": 1.5},
        {"shift": 2.0},
        {"uniform": True},
        {"betas": "linear"},
        {"mean": 0.0, "kind": "ddim"},
        {"sigma_data": 1.0, "kind": "flow"},
        {"sigma_max": 20.0, "kind": "ddim"},
        {"std": 1.0, "kind": "flow", "uniform": True},
    ],
    ids=str,
)
def test_bad_values_are_refused_by_name(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(values))):
        ProcessConfig(**values)
