"""`fluxshard merge` makes one dataset of several, which trains as one."""

import shutil
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., tuple[int, str, str]]


def test_merged_datasets_train_also_when_all_were_moved_together(
    dataset: str,
    demo_videos: list[str],
    tmp_path: Path,
    run: Run,
    facts_of: Callable[[str], dict],
    build_options: tuple[str, ...],
):
    together = tmp_path / "together"
    other, merged = str(together / "other"), str(together / "merged")
    dataset = str(shutil.copytree(dataset, together / "dataset"))
    assert run("build", str(Path(demo_videos[-1], "h264.mp4")), other, *build_options)[0] == 0
    assert run("merge", dataset, other, merged)[0] == 0
    assert run("verify", merged)[0] == 0
    clips = [facts_of(url)["clips"] for url in (dataset, other, merged)]
    assert clips[0] + clips[1] == clips[2]
    merged = str(together.rename(tmp_path / "moved") / "merged")
    assert run("verify", merged)[0] == 0
    options = ["--preset", "tiny", "--clips", "8"]
    code, _, err = run("train", "--data", merged, "--out", str(tmp_path / "r"), *options)
    assert code == 0, err


def test_keys_that_occur_twice_are_wrong_usage(dataset: str, tmp_path: Path, run: Run):
    code, _, err = run("merge", dataset, dataset, str(tmp_path / "twice"))
    assert code == 2
    assert "keys occur more than once" in err
