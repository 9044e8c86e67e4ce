import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.visibility_scenes import counts, f1, tally
from flow_cache import FlowField

ROOT = Path(__file__).resolve().parents[2]


def test_runs_as_a_script_and_finds_the_criterion_truer_than_the_one_before(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "visibility.py"), "--seeds", "0"]
    command += ["--estimators", "dis", "--json", str(tmp_path / "rows.json")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert "quiet ring" in done.stdout
    rows = json.loads((tmp_path / "rows.json").read_text())
    pooled = {(row["flow"], row["criterion"]): row for row in rows if row.get("scene") == "all"}
    for way in ("forward", "backward"):
        assert pooled["truth", "fb-matched"][way] >= 0.95
        assert pooled["dis", "fb-matched"][way] > pooled["dis", "fb-sundaram2010"][way]
    ring = {row["criterion"]: row["quiet ring"] for row in rows if "clips" in row}
    assert ring["fb-matched"] == 0
    assert ring["fb-sundaram2010"] > 0.3


def test_scores_by_hand() -> None:
    visible = torch.tensor([True, False, False, True])
    part = counts(torch.tensor([False, False, True, True]), visible)
    assert part == (1, 2, 2)
    assert f1([part, part]) == pytest.approx(0.5)
    assert f1([(0, 3, 0)]) is None
    flow = torch.zeros(1, 2, 4, 5)
    flow[0, 0, 0] = 1  # the upper row moves, so 9 of the 14 pixels of the ring are quiet
    seen = torch.ones(1, 4, 5, dtype=torch.bool)
    seen[0, 1:3, :2] = False
    assert tally([FlowField(flow=flow, visible=seen)]).tolist() == [9, 2, 4, 2]
