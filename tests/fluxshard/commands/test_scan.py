"""`fluxshard scan`, and what a build makes of its table once it was edited."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from shards import Dataset

Run = Callable[..., tuple[int, str, str]]
SCAN = ("--size=48x64", "--frames=9", "--fps=12", "--workers=1")
BUILD = ("--flow=dis", "--levels=1", "--clips-per-shard=3", "--workers=2", "--no-flow-cache")


@pytest.fixture(scope="module")
def videos(demo_videos: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of the demo's videos, one of them no video, and a manifest of one."""
    folder = tmp_path_factory.mktemp("some")
    for name in ("slow.mp4", "vp9.webm", "fast.webm", "not_a_video.mp4"):
        shutil.copy(Path(demo_videos[-1], name), folder)
    text = "video,caption,label,path\nfast.webm,quick shapes,3,mine\n"
    (folder / "listed.csv").write_text(text)
    return folder


@pytest.fixture(scope="module")
def scanned(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from fluxshard.main import main

    out = tmp_path_factory.mktemp("scanned") / "scan"
    assert main(["scan", str(videos / "listed.csv"), str(videos), str(out), *SCAN]) == 0
    return out


def media(folder: Path) -> dict[str, bytes]:
    """Tars and their Parquet files."""
    files = [path for name in ("clips", "flow") for path in (folder / name).rglob("*.*")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_table_that_nobody_touched_builds_what_its_videos_do(
    videos: Path, scanned: Path, tmp_path: Path, run: Run
):
    sources = (str(videos / "listed.csv"), str(videos))
    assert run("build", *sources, str(tmp_path / "a"), *SCAN, *BUILD)[0] == 0
    code, _, err = run("build", "--clips", str(scanned), str(tmp_path / "b"), *BUILD)
    assert code == 0
    assert "inputs: 3, rejects: 0" in err
    assert len(media(tmp_path / "a")) > 4
    assert media(tmp_path / "a") == media(tmp_path / "b")
    configs = [Dataset(tmp_path / name).manifest.config for name in "ab"]
    assert configs[0] == configs[1]


def test_rejects_stand_beside_the_table(scanned: Path, run: Run):
    code, out, _ = run("rejects", str(scanned), "--csv")
    assert code == 0
    assert "not_a_video.mp4,probe," in out
    assert out.splitlines()[0] == "path,stage,reason,detail,retried"


def test_a_second_scan_decodes_nothing_and_gives_the_same_table(
    videos: Path, scanned: Path, run: Run, monkeypatch: pytest.MonkeyPatch
):
    before = (scanned / "clips.parquet").read_bytes()

    monkeypatch.delattr("pipeline.planning.scan_all._scan_some")
    code, _, _ = run("scan", str(videos / "listed.csv"), str(videos), str(scanned), *SCAN)
    assert code == 0
    assert (scanned / "clips.parquet").read_bytes() == before


def test_a_table_is_filtered_sorted_and_edited_and_the_dataset_grows_with_it(
    scanned: Path, tmp_path: Path, run: Run
):
    """As another tool writes it: other types and columns, without what it does not know."""
    table = pq.read_table(scanned / "clips.parquet").replace_schema_metadata(None)
    captions = [f"clip {number}" for number in range(len(table))]
    table = table.set_column(
        table.column_names.index("caption"), "caption", pa.array(captions).dictionary_encode()
    )
    table = table.append_column("rank", pa.array(np.arange(len(table))[::-1], pa.uint8()))
    chosen = table.filter(pc.less(table["rank"], 5)).sort_by("rank")
    file, out = tmp_path / "mine.parquet", tmp_path / "out"
    pq.write_table(chosen, file)
    command = ("build", "--clips", str(file), str(out), *BUILD)
    assert run(*command)[0] == 0
    built = Dataset(out).clips
    told = dict(zip(built["key"].to_pylist(), built["caption"].to_pylist(), strict=True))
    expected = zip(*(chosen[name].to_pylist() for name in ("key", "caption")), strict=True)
    assert told == dict(expected)
    assert sorted(built["rank"].to_pylist()) == [0, 1, 2, 3, 4]
    before = media(out)
    code, _, err = run(*command)
    assert code == 0
    assert "shards: 0 built, 2 kept" in err

    captions = pa.array([caption.upper() for caption in captions])
    changed = table.set_column(table.column_names.index("caption"), "caption", captions)
    pq.write_table(changed.slice(3), file)
    code, _, err = run(*command)
    assert code == 0
    assert "rows of its clips have changed" in " ".join(err.split())
    assert before.items() < media(out).items()
    now = Dataset(out).clips
    assert {*table.slice(3)["key"].to_pylist()} == {*now["key"].to_pylist()}
    assert run("verify", str(out))[0] == 0


def test_a_table_of_other_clips_is_refused_before_anything_is_written(
    scanned: Path, tmp_path: Path, run: Run
):
    out = tmp_path / "out"
    command = ("build", "--clips", str(scanned), str(out), *BUILD)
    for option, words in (("--size=32x32", "32x32"), ("--frames=5", "--frames asks for 5")):
        code, _, err = run(*command, option)
        assert code == 2
        assert words in err
        assert "but --" in err
        assert not (out / "manifest.json").exists()
    code, _, err = run("build", "--clips", str(scanned), str(tmp_path), str(out))
    assert code == 2
    assert "name the folder of the dataset alone" in err
    code, _, err = run("build", "--clips", str(tmp_path), str(out))
    assert code == 2
    assert "holds no clips.parquet" in err


def test_a_video_that_changed_since_its_scan_fails_and_says_what_to_do(
    videos: Path, tmp_path: Path, run: Run
):
    video, out = tmp_path / "video.mp4", tmp_path / "out"
    shutil.copy(videos / "slow.mp4", video)
    assert run("scan", str(video), str(tmp_path / "scan"), *SCAN)[0] == 0
    shutil.copy(videos / "fast.webm", video)
    command = ("build", "--clips", str(tmp_path / "scan"), str(out), *BUILD)
    code, _, err = run(*command)
    assert code == 1
    assert "scan it again and take its clips from the new table" in err
    video.unlink()
    code, _, err = run(*command)
    assert code == 1
    assert f"{video}: FileNotFoundError" in err
    assert not list(out.glob("clips/*.parquet"))
    shutil.copy(videos / "slow.mp4", video)
    assert run(*command)[0] == 0


def test_a_video_that_cannot_be_read_ends_a_scan_without_a_table(
    videos: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pipeline.planning.scan_all.PAUSES_S", ())
    listed, out = tmp_path / "listed.csv", tmp_path / "out"
    listed.write_text(f"video\n{videos / 'slow.mp4'}\n/nowhere/gone.mp4\n")
    code, _, err = run("scan", str(listed), str(out), *SCAN)
    assert code == 1
    assert "/nowhere/gone.mp4" in err
    assert "nothing is written" in err
    assert not (out / "clips.parquet").exists()
    code, _, err = run("scan", str(listed), str(out), *SCAN, "--allow-failed")
    assert code == 1
    assert len(pq.read_table(out / "clips.parquet"))
    _, printed, _ = run("rejects", str(out), "--csv", "--reason=missing")
    assert printed.splitlines()[1].endswith(",yes")


def test_a_scan_spoils_no_dataset_and_no_other_folder(
    dataset: str, videos: Path, tmp_path: Path, run: Run
):
    code, _, err = run("scan", str(videos), dataset, *SCAN)
    assert code == 2
    assert "holds a dataset" in err
    (tmp_path / "notes.txt").touch()
    code, _, err = run("scan", str(videos), str(tmp_path), *SCAN)
    assert code == 2
    assert "is not empty" in err


def test_a_build_takes_the_scan_that_is_in_its_folder(
    videos: Path, scanned: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "out"
    shutil.copytree(scanned, out)
    monkeypatch.delattr("pipeline.planning.scan_all._scan_some")
    code, _, err = run("build", str(videos / "slow.mp4"), str(out), *SCAN, *BUILD)
    assert code == 0
    assert "inputs: 1, rejects: 0" in err, "the scan's rejects are none of this build's"
