import json
from pathlib import Path

import pytest

from benchmarks.memory import main


@pytest.mark.slow
def test_memory_does_not_depend_on_the_length(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ["--seconds", "60", "--height", "240", "--rounds", "1"]
    figures = main([*short, "--json", str(tmp_path / "figures.json")])
    assert json.loads((tmp_path / "figures.json").read_text())["scan"] == figures["scan"]
    for peaks in figures["peak_MiB"].values():
        assert peaks[60] < 1.2 * peaks[10] < 1200
    assert "at its peak" in capsys.readouterr().out
