"""Entry point by which torch hub builds DOT from a checkout of github.com/16lemoing/dot.

The repository has no hubconf.py of its own, and no packaging: it is put on the import path.
"""

import importlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def dense_optical_tracker(
    checkout: str, size: tuple[int, int], config: str, weights: dict[str, str | None]
) -> Any:
    """The model for frames of `size` = (height, width).

    config: file of the tracker's configuration; weights: files of "tracker", "estimator" and
    "refiner", None for random ones.
    """
    if checkout not in sys.path:
        sys.path.insert(0, checkout)
    models = importlib.import_module("dot.models")
    for name in ("dense_optical_tracking", "optical_flow", "point_tracking"):
        module: Any = importlib.import_module(f"dot.models.{name}")
        module.tqdm = _quiet
    configs = Path(checkout) / "configs"
    return models.DenseOpticalTracker(
        height=size[0],
        width=size[1],
        tracker_config=str(configs / config),
        tracker_path=weights["tracker"],
        estimator_config=str(configs / "raft_patch_8.json"),
        estimator_path=weights["estimator"],
        refiner_config=str(configs / "raft_patch_4_alpha.json"),
        refiner_path=weights["refiner"],
    )


def _quiet(values: Iterable[Any], **_: Any) -> Iterator[Any]:
    """In place of tqdm: a build has its own progress display."""
    return iter(values)
