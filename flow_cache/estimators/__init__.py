"""Optical flow estimators behind one contract (`base.FlowEstimator`), loaded by id."""

from collections.abc import Callable
from dataclasses import fields
from importlib import import_module
from typing import Any, cast

from flow_cache.estimators.base import EstimatorUnavailable, FlowEstimator

__all__ = ["ESTIMATORS", "EstimatorUnavailable", "FlowEstimator", "load_estimator"]

ESTIMATORS = {
    "dis": ("opencv_dis", "DisFlow"),
    "variational": ("variational", "VariationalFlow"),
    "raft_small": ("raft", "RaftSmall"),
    "raft_large": ("raft", "RaftLarge"),
    "dot": ("dot", "Dot"),
    "ptlflow:NAME": ("ptlflow", "PtlFlow"),
}


def load_estimator(name: str, **params: Any) -> FlowEstimator:
    """The estimator with this id and these parameters, ready to run.

    Raises ValueError for an unknown id, an unknown parameter or a bad value, and
    EstimatorUnavailable (also a ValueError) for a missing package, checkout or weights file; so
    call it before any video is opened.
    """
    key = name
    if name.startswith("ptlflow:"):
        key, params = "ptlflow:NAME", {"model": name.removeprefix("ptlflow:"), **params}
    if key not in ESTIMATORS:
        raise ValueError(f"unknown flow estimator {name!r}; choose one of {', '.join(ESTIMATORS)}")
    module, attribute = ESTIMATORS[key]
    factory = cast(
        Callable[..., FlowEstimator], getattr(import_module(f"{__name__}.{module}"), attribute)
    )
    known = [field.name for field in fields(cast(Any, factory)) if field.init]
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise ValueError(
            f"flow estimator {name!r} has no parameter {', '.join(unknown)}; "
            f"it takes {', '.join(known) or 'none'}"
        )
    return factory(**params)
