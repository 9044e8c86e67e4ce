import importlib
import json
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_figures_of_smoothness_prefer_a_still_clip_and_motion_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    main = importlib.import_module("metric_traps").main
    result = main(["--counts", "4,40", "--json", str(tmp_path / "rows.json")])
    assert json.loads((tmp_path / "rows.json").read_text()) == result
    rows = {row["way"]: row for row in result["spoiled"]}
    true, still = rows["true"], rows["standing still"]
    for name in ("flicker", "second_difference", "warping_error"):
        assert still[name] < true[name]
    assert (still["motion_ratio"], still["flow_relative"]) == (0, 1)
    assert (true["motion_ratio"], true["flow_relative"]) == (1, 0)
    assert true["motion_ratio"] > 1.5 * rows["half speed"]["motion_ratio"]
    few, more = result["bias"]
    assert few["distance"] > more["distance"] > 0
    assert "standing still" in capsys.readouterr().out
