from typing import Any

import pytest

from shards import UsageError
from trainer.config import FlowLossConfig


@pytest.mark.parametrize("values", [{"weight": -1.0}, {"sigma_floor": 0.0}, {"max_hops": 0}])
def test_bad_values_are_refused_by_name(values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(values))):
        FlowLossConfig(**values)
