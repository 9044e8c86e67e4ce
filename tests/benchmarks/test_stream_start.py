"""The script's job starts a stream in the middle of an epoch, with a filter or a frame rate too."""

import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def test_a_stream_starts_in_mid_epoch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(FOLDER)  # as for a script
    script = importlib.import_module("benchmarks.stream_start")
    importlib.import_module("scale_world").write_index(str(tmp_path), 60, script.PER_SHARD)
    for where, fps in script.CASES:
        figures = script.start(str(tmp_path), where, fps=fps)
        assert 0 < figures["samples"] <= 768
        assert figures["filter, order"]["s"] >= 0
