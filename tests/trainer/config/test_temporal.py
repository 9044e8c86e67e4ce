from typing import Any

import pytest

from shards import UsageError
from trainer.config import FluxFlowConfig, PyramidConfig


@pytest.mark.parametrize(
    ("config", "values"),
    [
        (FluxFlowConfig, {"ratio": 1.5}),
        (FluxFlowConfig, {"ratio": 0.0}),
        (FluxFlowConfig, {"count": 1}),
        (FluxFlowConfig, {"block": 0}),
        (PyramidConfig, {"ends": (0.1, 0.5, 2.0)}),
        (PyramidConfig, {"ends": (0.0, 2.0, 0.5)}),
        (PyramidConfig, {"ends": (0.0, 0.1, 0.2, 0.3)}),
        (PyramidConfig, {"ends": (0.0, 0.5, 0.6)}),
    ],
)
def test_bad_values_are_refused_by_name(config: type, values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(values))):
        config(**values)
