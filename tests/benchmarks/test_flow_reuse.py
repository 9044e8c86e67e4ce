import json
from pathlib import Path

import pytest

from benchmarks import flow_reuse
from tests.clusters import in_this_process


def test_a_build_that_is_repeated_copies_all_and_every_source_is_looked_up(
    demo_videos: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flow_reuse, "connect", lambda *_: in_this_process())
    monkeypatch.setattr(flow_reuse, "make_videos", lambda _: demo_videos)
    figures = flow_reuse.main(["--tiny", "--flow", "dis", "--json", str(tmp_path / "figures.json")])
    assert json.loads((tmp_path / "figures.json").read_text()) == figures
    first, again = figures["first"], figures["again"]
    assert (first["reused"], again["computed"]) == (0, 0)
    assert first["computed"] == again["reused"] > 0
    assert figures["lookup"]["found"] == 10_000
    assert "copied" in capsys.readouterr().out
