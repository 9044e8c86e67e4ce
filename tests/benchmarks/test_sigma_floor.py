import importlib
import json
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_the_cleaner_a_clip_is_shown_the_more_of_its_loss_is_floor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)
    script = importlib.import_module("sigma_floor")
    monkeypatch.setattr(script, "LEVELS", (0.02, 0.2))
    result = script.main(["--json", str(tmp_path / "rows.json")])
    assert json.loads((tmp_path / "rows.json").read_text())["share"] == result["share"]
    plain, oracle = (
        [result["share"][f"{name} {level}"] for level in (0.02, 0.2)] for name in script.DENOISERS
    )
    assert result["share"]["floor"] == 1
    assert 1 > plain[0] > 0.5 > plain[1]
    assert oracle[0] > plain[0]
    assert oracle[1] > plain[1]
    assert "0.02" in capsys.readouterr().out
