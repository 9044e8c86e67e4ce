"""`fluxshard demo` shows everything, from made-up videos to the report."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fluxshard.demo.videos import VIDEOS
from trainer.presets import PRESETS

Run = Callable[..., tuple[int, str, str]]


def test_everything_is_made(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch):
    two = [video for video in VIDEOS if video.name in ("h264.mp4", "slow.mp4")]
    monkeypatch.setattr("fluxshard.demo.videos.VIDEOS", two)
    tiny = replace(PRESETS["tiny"](), clips=8)
    monkeypatch.setitem(PRESETS, "tiny", lambda: tiny)
    out = tmp_path / "[demo]"
    code, _, err = run("demo", "--out", str(out))
    assert code == 0, err
    for line in ("variational-", "dis-", "not_a_video.mp4", f"open {out / 'report.html'}\n"):
        assert line in err
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "True flow beside stored flow" in page
    assert "What the model makes" in page
