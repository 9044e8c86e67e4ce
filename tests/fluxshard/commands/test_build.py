"""`fluxshard build`: what it takes, what it says, and that it can be stopped at any time."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fluxshard.commands.build import check_paths
from shards import Store, UsageError

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sources(demo_videos: list[str]) -> list[str]:
    """What `dataset` was built from."""
    return [str(Path(demo_videos[-1], name)) for name in ("slow.mp4", "vp9.webm")]


def test_the_help_names_every_option_with_its_default(run: Run):
    _, out, _ = run("build", "--help")
    for expected in ("SRC... OUT", "--size HxW", "256x384", "--levels 1,2,4", "--fps F"):
        assert expected in out


def test_a_second_build_says_what_it_copied_and_from_where(
    dataset: str,
    sources: list[str],
    tmp_path: Path,
    run: Run,
    facts_of: Callable[[str], dict],
    build_options: tuple[str, ...],
):
    options = (*build_options, "--clips-per-shard=2")
    code, _, err = run("build", *sources, str(tmp_path / "a"), *options)
    assert code == 0
    fields = 12 * facts_of(dataset)["clips"]
    assert f"0 fields computed, {fields} copied from" in err
    assert dataset in err
    code, _, err = run("build", *sources, str(tmp_path / "b"), *options, "--no-flow-cache")
    assert code == 0
    assert "copied" not in err


@pytest.mark.parametrize("name", ["Title [dQw4w9WgXcQ].mp4", "[bold].mp4"])
def test_what_is_rejected_is_named_as_it_is_called(
    name: str, tmp_path: Path, run: Run, build_options: tuple[str, ...]
):
    folder, out = tmp_path / "[" / "old]", str(tmp_path / "[" / "new]")
    folder.mkdir(parents=True)
    (folder / name).write_text("not a video")
    code, _, err = run("build", str(folder / name), out, *build_options)
    assert code == 1, "there is no clip at all"
    assert f" {name} " in err
    assert f"rejects: 1, clips: 0; shards: 0 built, 0 kept, 0 failed → {out}\n" in err


def test_strict_makes_a_reject_a_failure(
    demo_videos: list[str], tmp_path: Path, run: Run, build_options: tuple[str, ...]
):
    bad = tmp_path / "bad.mp4"
    bad.write_text("not a video")
    good, out = str(Path(demo_videos[-1], "too_short.mp4")), str(tmp_path / "out")
    options = (*build_options, "--frames=5", "--levels=1", "--flow=none")
    assert run("build", good, str(bad), out, *options)[0] == 0
    assert run("build", good, str(bad), out, *options, "--strict")[0] == 1


def test_the_dataset_s_folder_is_asked_for_where_it_was_forgotten(tmp_path: Path):
    videos, empty, dataset = tmp_path / "videos", tmp_path / "empty", tmp_path / "dataset"
    for folder in (videos, empty, dataset):
        folder.mkdir()
    for file in (videos / "a.mp4", dataset / "a.mp4", dataset / "manifest.json"):
        file.touch()
    for paths in ([str(videos)], [str(empty), str(videos)], [str(videos / "a.mp4")]):
        with pytest.raises(UsageError, match="is what to build from and no dataset"):
            check_paths(paths)
    for out in (empty, dataset, tmp_path / "absent"):
        with pytest.raises(UsageError, match="name at least one source"):
            check_paths([str(out)])
        check_paths([str(videos), str(out)])


def test_a_scheduler_that_does_not_answer_is_wrong_usage(
    sources: list[str], tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("pipeline.cluster._ANSWER", "1s")
    for address in ("tcp://127.0.0.1:9", "nowhere"):
        code, _, err = run("build", *sources, str(tmp_path / "out"), f"--scheduler={address}")
        assert code == 2
        assert f"no Dask scheduler answers at {address}" in err


@pytest.mark.parametrize("group", [False, True], ids=["process", "terminal"])
def test_ctrl_c_leaves_whole_files_and_the_same_command_goes_on(
    group: bool,
    dataset: str,
    sources: list[str],
    tmp_path: Path,
    run: Run,
    interrupt: Callable[..., tuple[int, str]],
    build_options: tuple[str, ...],
):
    out = tmp_path / "out"
    command = ["build", *sources, str(out), *build_options, "--no-flow-cache"]
    code, said = interrupt(command, lambda: any(out.glob("clips/*.parquet")), group=group)
    assert code == 130
    assert said.splitlines()[-1] == "interrupted; run the same command again to go on"
    assert "Traceback" not in said
    assert not list(out.rglob(".unfinished-*"))
    assert len(list(out.glob("clips/*.parquet"))) < len(list(Path(dataset).glob("clips/*.parquet")))
    assert run(*command)[0] == 0
    assert contents(out) == contents(Path(dataset))


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_second_job_on_the_same_folder_says_so_and_stops(
    dataset: str, sources: list[str], run: Run, build_options: tuple[str, ...]
):
    with Store(dataset).alone(print):
        before = contents(Path(dataset))
        for command in (
            ["build", *sources, dataset, *build_options],
            ["flow", dataset, "--estimator=dis"],
        ):
            code, _, err = run(*command)
            assert code == 2
            assert f"another job is writing to {dataset}" in err
        assert contents(Path(dataset)) == before
    assert run("build", *sources, dataset, *build_options)[0] == 0
    assert set(contents(Path(dataset))) == set(before) - {".lock"}


def test_failed_shards_can_be_left_out_and_the_exit_code_still_says_so(
    sources: list[str], tmp_path: Path, run: Run, build_options: tuple[str, ...]
):
    out = tmp_path / "out"
    command = ["build", *sources, str(out), *build_options, "--flow=none"]
    assert run(*command)[0] == 0
    last = max(out.glob("clips/*.tar"))
    last.unlink()
    last.with_suffix(".parquet").unlink()
    (last / "folder").mkdir(parents=True)
    code, _, err = run(*command)
    assert code == 1
    assert "run it again, or with --allow-failed to do without these" in err
    code, _, err = run(*command, "--allow-failed")
    assert code == 1
    assert "the dataset is finished without what failed" in err
    assert "shard_failed" in err
    assert run("verify", str(out))[0] == 0


def test_a_dry_run_makes_no_dataset_and_leaves_its_scan_for_the_build(
    sources: list[str],
    dataset: str,
    tmp_path: Path,
    run: Run,
    facts_of: Callable[[str], dict],
    build_options: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
):
    out = tmp_path / "out"
    command = ["build", *sources, str(out), *build_options]
    code, printed, err = run(*command, "--dry-run")
    assert (code, printed) == (0, "")
    facts = dict(line.split(maxsplit=1) for line in err.splitlines() if " " in line.strip())
    assert int(facts["clips"]) == int(facts["shards"]) == facts_of(dataset)["clips"]
    assert "100% of them copied" in err
    assert {path.parts[len(out.parts)] for path in out.rglob("*")} == {"scans"}
    monkeypatch.delattr("pipeline.planning.scan_all._scan_some")
    assert run(*command)[0] == 0
    code, _, err = run(*command, "--dry-run")
    assert code == 0
    assert ["clips", "0"] in [line.split() for line in err.splitlines()]


def test_a_dry_run_stops_where_the_build_would(
    sources: list[str],
    tmp_path: Path,
    run: Run,
    build_options: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("pipeline.planning.scan_all.PAUSES_S", ())
    listed = tmp_path / "listed.csv"
    listed.write_text(f"video\n{sources[0]}\n/nowhere/gone.mp4\n")
    command = ["build", str(listed), str(tmp_path / "out"), *build_options, "--dry-run"]
    code, _, err = run(*command)
    assert code == 1
    assert "/nowhere/gone.mp4" in err
    assert "nothing is predicted" in err
    code, _, err = run(*command, "--allow-failed")
    assert code == 1
    assert "core hours" in err
