"""Entry point by which torch hub builds DOT from a checkout of github.com/16lemoing/dot.

The repository has no hubconf.py of its own, and no packaging. Its package `dot` is imported from
where it lies; on the import path, the checkout's `demo.py`, `train.py` and others would stand
before whatever else has these names.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch


def dense_optical_tracker(
    checkout: str, size: tuple[int, int], config: str, weights: dict[str, str | None]
) -> Any:
    """The model for frames of `size` = (height, width).

    config: file of the tracker's configuration; weights: files of "tracker", "estimator" and
    "refiner", None for random ones.

    Raises:
        ImportError: another package of the name `dot` is in use.
        ValueError: the tracker's weights are not all of this tracker's, or not only.
    """
    _import_package(Path(checkout) / "dot")
    models = importlib.import_module("dot.models")
    for name in ("dense_optical_tracking", "optical_flow", "point_tracking"):
        module: Any = importlib.import_module(f"dot.models.{name}")
        module.tqdm = _quiet
    configs = Path(checkout) / "configs"
    model = models.DenseOpticalTracker(
        height=size[0],
        width=size[1],
        tracker_config=str(configs / config),
        tracker_path=None,  # it would load what fits and leave the rest random
        estimator_config=str(configs / "raft_patch_8.json"),
        estimator_path=weights["estimator"],
        refiner_config=str(configs / "raft_patch_4_alpha.json"),
        refiner_path=weights["refiner"],
    )
    if weights["tracker"] is not None:
        _load_weights(model.point_tracker.model, weights["tracker"])
    return model


def _load_weights(tracker: torch.nn.Module, file: str) -> None:
    """All of a tracker's weights, and nothing else, from a file."""
    try:
        tracker.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    except RuntimeError as error:
        raise ValueError(
            f"the weights in {file} are not those of DOT's tracker; remove the file so that it is "
            f"fetched again: {error}"
        ) from error


def _import_package(folder: Path) -> None:
    """Import the package `dot` from its folder, whatever the import path holds."""
    start = str(folder / "__init__.py")
    known = sys.modules.get("dot")
    if known is not None and known.__file__ == start:
        return
    if known is not None:
        raise ImportError(
            f"DOT's package is called dot, and so is {known.__file__}, which is in use; estimate "
            "in a process that does not import it"
        )
    spec = importlib.util.spec_from_file_location(
        "dot", start, submodule_search_locations=[str(folder)]
    )
    assert spec is not None, "Python files have a loader"
    assert spec.loader is not None, "Python files have a loader"
    sys.modules["dot"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


def _quiet(values: Iterable[Any], **_: Any) -> Iterator[Any]:
    """In place of tqdm: a build has its own progress display."""
    return iter(values)
