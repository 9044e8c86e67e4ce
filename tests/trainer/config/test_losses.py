from typing import Any

import pytest

from shards import UsageError
from trainer.config import FlowLossConfig, SmoothnessConfig, WarpingConfig


@pytest.mark.parametrize(
    ("config", "values"),
    [
        (FlowLossConfig, {"weight": -1.0}),
        (FlowLossConfig, {"sigma_floor": 0.0}),
        (FlowLossConfig, {"max_hops": 0}),
        (WarpingConfig, {"weight": -1.0}),
        (SmoothnessConfig, {"weight": -1.0}),
        (SmoothnessConfig, {"alpha": -0.1}),
    ],
)
def test_bad_values_are_refused_by_name(config: type, values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(values))):
        config(**values)


def test_the_articles_losses_are_off_until_they_get_a_weight() -> None:
    assert (WarpingConfig().weight, SmoothnessConfig().weight) == (0, 0)
