"""Flow that was stored under a `revision` is what this revision gives today.

Stored fields are reused wherever their spec is the same, so an algorithm that gives other flow
under an old revision would mix two algorithms in one layer. What is compared is the flow of small
seeded pictures (networks: with seeded random weights), rounded to steps of 1/16 px, with a golden
file per revision. Of 31,248 steps, 0.03 % differ where the processor's instruction set is another
one (AVX-512, AVX2 and none were tried); 0.2 % may.
"""

from importlib import import_module
from typing import Any

import numpy as np
import pytest

from flow_cache import EstimatorUnavailable
from flow_cache.estimators.network import import_torchvision
from flow_cache.occlusion import CRITERIA, MATCHED
from tests.golden.estimators.generate import NAMES, codes, golden_file, loaded
from tests.golden.visibility import generate as visibility

EQUAL_SHARE = 0.998
VARIATIONAL = "flow_cache.estimators.variational"
LIBRARIES = {"dis": "OpenCV", "raft": "torchvision"}  # whose versions are the revisions


def equal_share(case: str) -> float:
    """Of the golden file's steps, those that are the same today."""
    with loaded(case) as estimator:
        file = golden_file(case, estimator.revision)
        if not file.exists():
            for name, library in LIBRARIES.items():
                if case.startswith(name):
                    pytest.skip(f"golden flow: none for this version of {library}")
            pytest.fail(
                f"{file.name} is missing: a new revision of {case}? Then write its golden flow "
                "with python -m tests.golden.estimators.generate"
            )
        golden, today = np.load(file)["codes"], codes(estimator)
    assert golden.shape == today.shape
    return float((golden == today).mean())


@pytest.mark.parametrize("case", NAMES)
@pytest.mark.usefixtures("as_in_production")
def test_a_revision_keeps_its_flow(case: str) -> None:
    if case.startswith("raft"):
        try:
            import_torchvision()
        except EstimatorUnavailable as error:
            pytest.skip(f"torchvision: {error}")
    share = equal_share(case)
    assert share >= EQUAL_SHARE, (
        f"{1 - share:.2%} of the flow that {case} stores has changed: give it another `revision`, "
        "or flow of both algorithms will be mixed by reuse"
    )


@pytest.mark.parametrize(
    ("case", "module", "name", "value"),
    [
        ("variational", f"{VARIATIONAL}.relaxation", "SMOOTHNESS", 0.303),
        ("variational", f"{VARIATIONAL}.constancy", "EPSILON", 1.1e-3),
        ("variational", f"{VARIATIONAL}.solver", "LARGEST_CHANGE", 2.2),
        ("variational", f"{VARIATIONAL}.search", "REACH", 6),
        ("ptlflow", "flow_cache.estimators.ptlflow", "SMALLEST", 96),
    ],
)
@pytest.mark.usefixtures("as_in_production")
def test_a_constant_that_changes_does_not_go_unnoticed(
    case: str, module: str, name: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module(module), name, value)
    assert equal_share(case) < EQUAL_SHARE


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.usefixtures("as_in_production")
def test_a_criterion_keeps_its_masks(criterion: str) -> None:
    assert equal_masks(criterion) >= EQUAL_SHARE, (
        f"the visibility that layers of {criterion!r} store has changed: give it another id, or "
        "masks of both will be mixed by reuse"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("ALIKE", 4), ("UNLIKE", 20), ("MAJORITY", 3)),
        *(("NEAR", ((0, 0),)), ("FAR", ((0, 0),))),
    ],
)
@pytest.mark.usefixtures("as_in_production")
def test_a_constant_of_matching_that_changes_does_not_go_unnoticed(
    name: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_module("flow_cache.matching"), name, value)
    assert equal_masks(MATCHED) < EQUAL_SHARE


def equal_masks(criterion: str) -> float:
    today = visibility.masks(criterion)
    golden = np.unpackbits(np.load(visibility.golden_file(criterion))["masks"], count=today.size)
    return float((golden == today.ravel()).mean())
