"""How exactly a field is worth storing: as exactly as its estimate is to be trusted.

The way there and back by two estimates ends where it began, but for their errors. Rounding that is
small beside these costs a user of the flow nothing (docs/flow-format.md has the figures).
"""

import math

from flow_cache.coding.header import SMALLEST_PX, exact_step
from flow_cache.coding.scales import LARGEST_STEP

ROUND_TRIPS = 4  # of their root mean square that a component may be off by
FINEST = 1 / 32  # of a layer's bound: what moves not at all costs nothing at that
UNKNOWN = 1 / 4  # of a layer's bound, where no estimate leads back


def field_bound(max_error_px: float, round_trip_rms: float | None, largest_px: float) -> float:
    """The maximum error of one field: that of its layer, or a smaller power of two.

    Args:
        max_error_px: of the layer.
        round_trip_rms: root mean square over the visible pixels, pixels; None where it is not
            known, NaN where no pixel is visible.
        largest_px: the field's largest component, which should stay within the codec's range.
    """
    if round_trip_rms is None:
        wanted = UNKNOWN * max_error_px
    elif math.isnan(round_trip_rms):
        return max_error_px
    else:
        wanted = max(ROUND_TRIPS * round_trip_rms, FINEST * max_error_px)
    in_range = largest_px / LARGEST_STEP  # a bound's step is larger than the bound itself
    wanted = max(wanted, in_range, SMALLEST_PX)
    return exact_step(wanted) / 2 if wanted < max_error_px else max_error_px
