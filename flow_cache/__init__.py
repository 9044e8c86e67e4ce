"""What moved where between the frames of a clip: estimate it, judge it, store it, answer any pair.

The conventions of flow and visibility stand in `flow_cache.field`.

field, spec   flow with its visibility; how a layer of it was made, and its digest
algebra       sampling, composition, change of geometry, each with its validity
occlusion     visibility from a forward and a backward flow
matching      the same with the two pictures, which know better where motion ends
lookup        any pair of frames from the stored ones
coding        one field to bytes and back with a stated maximum error
estimators    the algorithms, and all fields of a clip by one of them
quality       figures that say how far to trust the flow of a clip
color         flow as a picture

Beside these, `flow_cache.reuse` finds flow that other datasets hold; it stands on `shards`.
"""

from flow_cache.algebra import compose, crop, flip, in_frame, length, resize, round_trip, warp
from flow_cache.coding import (
    DamagedField,
    DecodedField,
    FieldHeader,
    PackedFields,
    decode_field,
    decode_fields,
    encode_field,
    field_bound,
    open_fields,
    packed_room,
    read_header,
    relabel,
    restore_fields,
)
from flow_cache.color import flow_to_rgb, wheel_legend
from flow_cache.estimators import EstimatorUnavailable, FlowEstimator, is_named, load_estimator
from flow_cache.estimators.estimate import check_estimator, estimate_clip
from flow_cache.field import FlowField
from flow_cache.lookup import flow_between, hops, reverse
from flow_cache.occlusion import DEFAULT_CRITERION, NATIVE, check_criterion, visibility
from flow_cache.quality import (
    FIGURES,
    RoundTrip,
    clip_quality,
    measure_round_trip,
    shortest_pairs,
)
from flow_cache.spec import CODING, DIRECTIONS, FlowSpec, Pair, level_pairs

# fmt: off
__all__ = [  # noqa: RUF022 - grouped
    # flow, and how it was made
    "FlowField", "FlowSpec", "Pair", "CODING", "DIRECTIONS", "level_pairs",
    # arithmetic, visibility, any pair
    "compose", "crop", "flip", "in_frame", "length", "resize", "round_trip", "warp",
    "DEFAULT_CRITERION", "NATIVE", "check_criterion", "visibility", "flow_between", "hops",
    "reverse",
    # estimating
    "FlowEstimator", "EstimatorUnavailable", "load_estimator", "is_named", "check_estimator",
    "estimate_clip",
    # storing, judging, showing
    "DecodedField", "FieldHeader", "DamagedField", "decode_field", "decode_fields",
    "encode_field", "field_bound", "read_header", "relabel", "PackedFields", "open_fields",
    "packed_room", "restore_fields", "FIGURES", "RoundTrip", "clip_quality", "measure_round_trip",
    "shortest_pairs", "flow_to_rgb", "wheel_legend",
]
# fmt: on
