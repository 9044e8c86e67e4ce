import json
from pathlib import Path

import pytest

from benchmarks.flow_hops import main


def test_direct_estimates_agree_with_themselves_and_chains_do_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = main(["--json", str(tmp_path / "rows.json")])
    assert json.loads((tmp_path / "rows.json").read_text()) == rows
    assert [(row["span"], row["level"]) for row in rows] == [
        *((2, 1), (2, 2)),
        *((4, 1), (4, 2), (4, 4)),
        *((8, 1), (8, 2), (8, 4), (8, 8)),
    ]
    for row in rows:
        assert (row["epe_to_direct"] == 0) == (row["hops"] == 1)
        assert 0.3 < row["visible_share"] <= 1
    assert "distance to direct" in capsys.readouterr().out
