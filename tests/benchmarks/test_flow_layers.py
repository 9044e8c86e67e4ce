import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def layers(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)  # as for a script
    return importlib.import_module("benchmarks.flow_layers")


@pytest.mark.usefixtures("as_in_production")
def test_a_small_run_prints_and_keeps_its_figures(
    layers: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--cache", str(tmp_path / "kept"), "--json", str(tmp_path / "rows.json")]
    rows = {row.bound: row for row in layers.main(options)}
    assert json.loads((tmp_path / "rows.json").read_text())[0]["bound"] == "first layout, 1/32"
    fine, coarse = rows["1/32"], rows["1/4"]
    for level in range(3):
        assert fine.kib[level] > coarse.kib[level]
        assert abs(fine.raises[level]) < 0.005 < 0.3 > coarse.raises[level]
        assert fine.gradient[level] > coarse.gradient[level] > 0.95
    assert fine.spans < coarse.spans
    assert fine.visible > coarse.visible > 0.99
    assert rows["by round trip"].multiple == sorted(rows["by round trip"].multiple)
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*rows, "cpu", "floor, unrounded"))
    figures = json.loads((tmp_path / "kept" / "scene.json").read_text())
    figures["unrounded"]["floors"] = [1e9, 1e9, 1e9]
    (tmp_path / "kept" / "scene.json").write_text(json.dumps(figures))
    assert layers.main(options)[1].raises == pytest.approx([-1, -1, -1])
