"""`fluxshard info` for people and for programs."""

import json
from collections.abc import Callable

import pytest

Run = Callable[..., tuple[int, str, str]]


def test_json_is_printed_only_when_asked(dataset: str, run: Run):
    code, out, err = run("info", dataset)
    assert (code, out) == (0, "")
    assert "clips" in err
    assert "device CPU" in err
    code, out, _ = run("info", dataset, "--json")
    facts = json.loads(out)
    (layer,) = facts["layers"].values()
    assert layer["estimator"] == "variational"
    assert layer["fields"] == facts["clips"] * (8 + 4)
    assert facts["seconds"] == pytest.approx(facts["clips"] * 9 / 12, abs=1e-3)
