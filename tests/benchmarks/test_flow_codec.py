import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.flow_codec import MAX_ERROR_PX, Row, forms, main, measure, real_fields

BOUNDED = {"ours", "first layout, 1/32 px", "JPEG-LS"}


def rows_of(report: dict[str, Any]) -> dict[str, Row]:
    return {row["form"]: Row(**row) for row in report["rows"]}


def test_a_small_run_prints_and_writes_a_row_for_every_form(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--rounds", "1", "--json", str(tmp_path / "rows.json")])
    report = json.loads((tmp_path / "rows.json").read_text())
    rows = rows_of(report)
    assert {"raw fp16", "ours", "fp16 + zstd-3", "KITTI PNG, 1/64 px"} <= set(rows)
    assert rows["raw fp16"].kib == 64 * 96 * 2 * 2 / 1024
    assert rows["raw fp16"].decode_to_fp16 == 1
    for name in BOUNDED & set(rows):
        assert rows[name].max_error_px <= MAX_ERROR_PX, name
    printed = capsys.readouterr().out
    assert all(name in printed for name in (*rows, "cpu"))


def test_real_fields_keep_the_promised_size(data_dir: Path, tmp_path: Path) -> None:
    for video in sorted((data_dir / "videos").iterdir())[::3]:
        (tmp_path / video.name).symlink_to(video)
    fields = real_fields(tmp_path)
    names = ("ours", "first layout, 1/32 px", "KITTI PNG, 1/64 px")
    ours, first, kitti = measure([f for f in forms() if f.name in names], fields, rounds=1)
    assert ours.smaller_than_fp16 >= 20
    assert first.kib / ours.kib >= 2
    assert kitti.kib / ours.kib >= 5
    assert ours.max_error_px <= MAX_ERROR_PX
    assert abs(ours.mean_error_px) <= 1e-4


def test_a_folder_without_videos_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no videos in"):
        main(["--data", str(tmp_path)])
