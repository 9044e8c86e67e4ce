import math

import pytest

from flow_cache.coding.bound import field_bound
from flow_cache.coding.scales import LARGEST_STEP


@pytest.mark.parametrize(
    ("trip", "bound"),
    [
        (0.0, 1 / 64),  # of a layer's 1/2 px never below 1/32
        (0.01, 1 / 32),
        (0.0624, 1 / 8),
        (0.0625, 1 / 4),
        (0.2, 1 / 2),
        (1e9, 1 / 2),
        (math.nan, 1 / 2),  # nothing is visible
        (None, 1 / 8),  # nothing is known
    ],
)
def test_a_field_is_held_to_a_power_of_two_below_its_round_trips(
    trip: float | None, bound: float
) -> None:
    assert field_bound(1 / 2, trip, 3.0) == bound


@pytest.mark.parametrize("layer", [0.3, 1 / 32, 2.0**-20])
@pytest.mark.parametrize("trip", [0.0, 0.001, 5.0, None])
def test_no_field_is_coarser_than_its_layer(layer: float, trip: float | None) -> None:
    assert 2.0**-20 <= field_bound(layer, trip, 3.0) <= layer


@pytest.mark.parametrize("largest", [127.0, 128.0, 129.0, 700.0, 3000.0])
def test_certain_flow_that_is_large_stays_in_range(largest: float) -> None:
    bound = field_bound(1 / 2, 0.0, largest)
    assert largest <= LARGEST_STEP * 2 * bound
    assert bound <= max(1 / 64, largest / LARGEST_STEP)
