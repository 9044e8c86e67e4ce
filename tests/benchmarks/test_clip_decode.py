import json
from pathlib import Path

import pytest

from benchmarks.clip_decode import FORMS, main


def test_only_exact_forms_are_free_of_bias(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = main(["--rounds", "1", "--json", str(tmp_path / "rows.json")])
    assert [row["form"] for row in json.loads((tmp_path / "rows.json").read_text())] == [*FORMS]
    bias = {row.form: abs(sum(row.bias)) / 3 for row in rows}
    for exact in ("decode_clip", "packed RGB, exact"):
        assert bias[exact] < 0.1 < bias["packed RGB, truncated"]
    assert "PyAV to_ndarray" in capsys.readouterr().out
