import json
from pathlib import Path

import pytest

from benchmarks.latent_mixing import main


def test_only_blocks_of_whole_latents_mix_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = main(["--draws", "20", "--json", str(tmp_path / "rows.json")])
    assert json.loads((tmp_path / "rows.json").read_text()) == rows
    assert len(rows) == 2 * 4 * 2 * 3
    for row in rows:
        whole = row["shuffle"] in (
            "blocks of 4, remainder at the head",
            "blocks of 8, remainder at the head",
        )
        if row["stride"] == 1:
            assert (row["mixed"] == 0) == whole
        assert row["moved"] != 0
    assert "span of a mixed latent" in capsys.readouterr().out
