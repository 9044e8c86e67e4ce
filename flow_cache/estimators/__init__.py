"""Optical flow estimators behind one contract (`base.FlowEstimator`), loaded by name.

A name is an id and, where wanted, parameters: `dis`, `dis:preset=fast`,
`ptlflow:raft:checkpoint=kitti`.
"""

from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from importlib import import_module
from typing import Any, cast

from flow_cache.estimators.base import EstimatorUnavailable, FlowEstimator

__all__ = [
    "ESTIMATORS",
    "IMPORTED",
    "EstimatorUnavailable",
    "FlowEstimator",
    "is_named",
    "load_estimator",
    "split_name",
]

IMPORTED = "imported:"  # begins the id of flow that files brought
ESTIMATORS = {
    "dis": ("opencv_dis", "DisFlow"),
    "variational": ("variational", "VariationalFlow"),
    "raft_small": ("raft", "RaftSmall"),
    "raft_large": ("raft", "RaftLarge"),
    "dot": ("dot", "Dot"),
    "ptlflow:NAME": ("ptlflow", "PtlFlow"),
}


def load_estimator(name: str, **params: Any) -> FlowEstimator:
    """The estimator of this name and these parameters, ready to run.

    Raises ValueError for an unknown id, an unknown parameter or a bad value, and
    EstimatorUnavailable (also a ValueError) for a missing package, checkout or weights file; so
    call it before any video is opened.
    """
    key, written = split_name(name)
    if key.startswith("ptlflow:"):
        params, key = {"model": key.removeprefix("ptlflow:"), **params}, "ptlflow:NAME"
    if key.startswith(IMPORTED):
        raise ValueError(f"flow {key!r} was imported from files; no estimator makes more of it")
    if key not in ESTIMATORS:
        raise ValueError(f"unknown flow estimator {key!r}; choose one of {', '.join(ESTIMATORS)}")
    module, attribute = ESTIMATORS[key]
    factory = cast(
        Callable[..., FlowEstimator], getattr(import_module(f"{__name__}.{module}"), attribute)
    )
    known = {field.name: field for field in fields(cast(Any, factory)) if field.init}
    if unknown := sorted({*written, *params} - known.keys()):
        raise ValueError(
            f"flow estimator {name!r} has no parameter {', '.join(unknown)}; "
            f"it takes {', '.join(known) or 'none'}"
        )
    if twice := sorted(written.keys() & params.keys()):
        raise ValueError(f"flow estimator {name!r} is given {', '.join(twice)} twice; keep one")
    return factory(**params, **{name: _value(known[name], text) for name, text in written.items()})


def split_name(name: str) -> tuple[str, dict[str, str]]:
    """Id and parameters, as written, of an estimator's name.

    `raft_small:updates=24` is `raft_small` with {"updates": "24"}: segments with `=` are
    parameters, the others the id.

    Raises:
        ValueError: a parameter is given twice.
    """
    segments = name.split(":")
    written = [segment.partition("=")[::2] for segment in segments if "=" in segment]
    if len(dict(written)) < len(written):
        raise ValueError(f"flow estimator {name!r} is given a parameter twice; keep one")
    return ":".join(segment for segment in segments if "=" not in segment), dict(written)


def is_named(name: str, estimator: str, params: Mapping[str, Any]) -> bool:
    """Whether the estimator with this id and these parameters is one that `name` may mean."""
    key, written = split_name(name)
    return key == estimator and all(str(params.get(x)) == text for x, text in written.items())


def _value(field: "Field[Any]", text: str) -> Any:
    """The value that `text` means for a parameter, of the parameter's type."""
    if field.type is not int:
        return text
    try:
        return int(text)
    except ValueError:
        raise ValueError(
            f"{field.name}={text!r}: {field.name} is a whole number; write {field.name}="
            f"{field.default}, for example"
        ) from None
