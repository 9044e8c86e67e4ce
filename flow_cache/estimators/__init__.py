"""Optical flow estimators behind one contract (`base.FlowEstimator`), loaded by id."""

from collections.abc import Callable
from dataclasses import fields
from importlib import import_module
from typing import Any, cast

from flow_cache.estimators.base import FlowEstimator

__all__ = ["ESTIMATORS", "FlowEstimator", "load_estimator"]

ESTIMATORS = {
    "dis": ("flow_cache.estimators.dis", "DisFlow"),
    "variational": ("flow_cache.estimators.variational", "VariationalFlow"),
}


def load_estimator(name: str, **params: Any) -> FlowEstimator:
    """The estimator with this id and these parameters, ready to run.

    Raises ValueError for an unknown id, an unknown parameter or a bad value, so call it before
    any video is opened.
    """
    if name not in ESTIMATORS:
        raise ValueError(f"unknown flow estimator {name!r}; choose one of {', '.join(ESTIMATORS)}")
    module, attribute = ESTIMATORS[name]
    factory = cast(Callable[..., FlowEstimator], getattr(import_module(module), attribute))
    known = [field.name for field in fields(cast(Any, factory)) if field.init]
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise ValueError(
            f"flow estimator {name!r} has no parameter {', '.join(unknown)}; "
            f"it takes {', '.join(known) or 'none'}"
        )
    return factory(**params)
