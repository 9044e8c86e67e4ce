"""Estimators by name: an id, and parameters written into it."""

from dataclasses import dataclass
from typing import Any

import pytest

from flow_cache.estimators import ESTIMATORS, is_named, load_estimator, split_name


@pytest.mark.parametrize(
    ("name", "key", "params"),
    [
        ("dis", "dis", {}),
        ("dis:preset=fast", "dis", {"preset": "fast"}),
        ("ptlflow:raft", "ptlflow:raft", {}),
        ("ptlflow:raft:checkpoint=kitti", "ptlflow:raft", {"checkpoint": "kitti"}),
        (
            "raft_small:updates=24:precision=bfloat16",
            "raft_small",
            {"updates": "24", "precision": "bfloat16"},
        ),
    ],
)
def test_a_name_is_an_id_and_parameters(name: str, key: str, params: dict[str, str]) -> None:
    assert split_name(name) == (key, params)


def test_parameters_in_the_name_are_parameters() -> None:
    written, given = load_estimator("dis:preset=fast"), load_estimator("dis", preset="fast")
    assert written == given != load_estimator("dis")
    assert (written.name, written.params) == ("dis", {"preset": "fast"})


def test_a_name_fits_estimators_of_its_id_and_parameters() -> None:
    fast = ("dis", {"preset": "fast"})
    assert is_named("dis", *fast)
    assert is_named("dis:preset=fast", *fast)
    assert not is_named("dis:preset=medium", *fast)
    assert not is_named("variational", *fast)
    assert is_named("raft_small:updates=24", "raft_small", {"updates": 24, "weights": "C_T_V2"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Counted:
    """Stands for an estimator with a parameter that is a number."""

    updates: int = 12


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flow_cache.estimators.opencv_dis.Counted", Counted, raising=False)
    monkeypatch.setitem(ESTIMATORS, "counted", ("opencv_dis", "Counted"))


@pytest.mark.usefixtures("counted")
def test_values_have_the_type_of_the_parameter() -> None:
    loaded: Any = load_estimator("counted:updates=24")
    assert loaded == Counted(updates=24)


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize(
    ("name", "params", "complaint"),
    [
        ("optic:preset=fast", {}, "unknown flow estimator 'optic'; choose one of dis"),
        ("dis:speed=3", {}, r"'dis:speed=3' has no parameter speed; it takes preset"),
        ("dis:preset=slow", {}, "unknown DIS preset 'slow'; choose ultrafast"),
        ("dis:preset=", {}, "unknown DIS preset ''"),
        ("dis:fast", {}, "unknown flow estimator 'dis:fast'"),
        ("dis:preset=fast:preset=medium", {}, "given a parameter twice"),
        ("dis:preset=fast", {"preset": "medium"}, "is given preset twice"),
        ("counted:updates=many", {}, "updates='many': updates is a whole number; write updates=12"),
    ],
)
def test_what_is_wrong_is_named(name: str, params: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        load_estimator(name, **params)
