"""DOT: tracks through the whole clip, dense flow between any two of its frames."""

from flow_cache.estimators.dot.estimator import Dot

__all__ = ["Dot"]
