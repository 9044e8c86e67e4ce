"""What moved where between the frames of a clip: estimate it, judge it, store it, answer any pair.

The conventions of flow and visibility stand in `flow_cache.field`. Types and pure functions:

field       FlowField: flow and visibility, always together
spec        FlowSpec (how a flow layer was made, and its digest), Pair, level_pairs
algebra     warp, compose, resize, crop, flip
occlusion   visibility from a forward and a backward flow
codec       one field to bytes and back with a stated maximum error (residual: how they get few)
lookup      any pair of frames from the stored ones
quality     figures that say how far to trust the flow of a clip
color       flow as a picture
estimate    all fields of a clip with one estimator
scenes      synthetic scenes whose flow and visibility are known exactly
estimators  the algorithms
"""

from flow_cache.estimators import load_estimator
from flow_cache.field import FlowField
from flow_cache.spec import FlowSpec, Pair, level_pairs

__all__ = ["FlowField", "FlowSpec", "Pair", "level_pairs", "load_estimator"]
