"""`fluxshard eval` judges a run on clips that it was not trained on, as a table or as JSON."""

import json
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., tuple[int, str, str]]


def test_a_run_is_judged(dataset: str, tmp_path: Path, run: Run):
    out = str(tmp_path / "[run]")
    options = ["--preset=tiny", "--method=baseline", "--clips=4", "--device=cpu", "--model.dim=24"]
    options += ["--validation.share=0.5", "--validation.by=key", "--validation.levels=2"]
    code, _, err = run("train", "--data", dataset, "--out", out, *options)
    assert code == 0, err
    code, said, _ = run("eval", out, "--device=cpu", "--json")
    assert code == 0
    found = json.loads(said)
    assert len(found["by_level"]) == 2
    assert found["data"] == dataset
    code, said, _ = run("eval", out, "--device=cpu")
    assert code == 0
    assert all(level in said for level in found["by_level"])


def test_a_folder_that_is_no_run_is_wrong_usage(tmp_path: Path, run: Run):
    code, _, err = run("eval", str(tmp_path))
    assert code == 2
    assert "is no run" in err
