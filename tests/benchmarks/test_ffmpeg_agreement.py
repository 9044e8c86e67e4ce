import json
from pathlib import Path

import pytest

from benchmarks.ffmpeg_agreement import compare, find_ffmpeg, main

needs_ffmpeg = pytest.mark.skipif(
    find_ffmpeg() is None, reason="no ffmpeg program; `pip install imageio-ffmpeg` brings one"
)
FILES = [  # turned, of odd width or pixels, of variable rate, below zero, of every container
    *("ios9.mov", "fire2.mp4", "carphone_pristine.mp4", "awesome_movie.mov", "bear-vp9.webm"),
    *("yoga.mp4", "androidx_sample.avi", "sample_av1.mp4", "nasa_13013_hdr.mp4"),
]


@needs_ffmpeg
@pytest.mark.parametrize("name", FILES)
def test_frames_are_those_of_the_ffmpeg_program(data_dir: Path, name: str) -> None:
    row = compare(find_ffmpeg() or "", data_dir / "videos" / name, frames=4)
    assert row.agrees, row


@needs_ffmpeg
def test_the_table_tells_of_every_video(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.webm").symlink_to(data_dir / "videos/bear-vp9.webm")
    (row,) = main(["--data", str(tmp_path), "--frames", "2", "--json", str(tmp_path / "rows.json")])
    assert json.loads((tmp_path / "rows.json").read_text())[0]["frames"] == row.frames == 82
    assert "disagrees" not in capsys.readouterr().out
