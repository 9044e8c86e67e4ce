import json
from pathlib import Path

import pytest

from benchmarks.flow_reuse import main


def test_a_build_that_is_repeated_copies_all_and_every_source_is_looked_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = main(["--tiny", "--flow", "dis", "--json", str(tmp_path / "figures.json")])
    assert json.loads((tmp_path / "figures.json").read_text()) == figures
    first, again = figures["first"], figures["again"]
    assert (first["reused"], again["computed"]) == (0, 0)
    assert first["computed"] == again["reused"] > 0
    assert figures["lookup"]["found"] == 10_000
    assert "copied" in capsys.readouterr().out
