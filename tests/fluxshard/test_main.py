"""The command line as a user meets it: help, exit codes, what goes to which stream."""

import json
import shutil
from pathlib import Path

import pytest

from fluxshard.main import main

BUILD = ["--size", "48x64", "--frames", "9", "--fps", "12", "--flow", "variational"]
BUILD += ["--levels", "1,2", "--workers", "1"]


COMMANDS = ["build", "flow", "merge", "cache", "verify", "info", "inspect", "train", "demo"]


@pytest.fixture(scope="module")
def dataset(demo_videos: list[str], tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("cli") / "dataset"
    folder = Path(demo_videos[-1])
    assert (
        main(["build", str(folder / "slow.mp4"), str(folder / "vp9.webm"), str(out), *BUILD]) == 0
    )
    return str(out)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    try:
        code = main(arguments)
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str], command: str):
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert f"usage: fluxshard {command}" in out
    assert "STR..." not in out


def test_the_build_help_names_every_option_with_its_default(capsys: pytest.CaptureFixture[str]):
    _, out, _ = run(capsys, "build", "--help")
    for expected in ("SRC... OUT", "--size HxW", "256x384", "--levels 1,2,4", "--fps F"):
        assert expected in out


def test_info_prints_json_only_when_asked(dataset: str, capsys: pytest.CaptureFixture[str]):
    code, out, err = run(capsys, "info", dataset)
    assert (code, out) == (0, "")
    assert "clips" in err
    code, out, _ = run(capsys, "info", dataset, "--json")
    facts = json.loads(out)
    (layer,) = facts["layers"].values()
    assert layer["estimator"] == "variational"
    assert layer["fields"] == facts["clips"] * 2 * (8 + 4)
    assert facts["seconds"] == pytest.approx(facts["clips"] * 9 / 12, abs=1e-3)


def test_a_second_build_says_what_it_copied_and_from_where(
    dataset: str, demo_videos: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    sources = [str(Path(demo_videos[-1], name)) for name in ("slow.mp4", "vp9.webm")]
    code, _, err = run(
        capsys, "build", *sources, str(tmp_path / "a"), *BUILD, "--clips-per-shard=2"
    )
    said = " ".join(err.split())
    assert code == 0
    assert f"0 fields computed, {24 * facts_of(capsys, dataset)['clips']} copied from" in said
    assert dataset in err.replace("\n", "")
    code, _, err = run(capsys, "build", *sources, str(tmp_path / "b"), *BUILD, "--no-flow-cache")
    assert code == 0
    assert "copied" not in err


def facts_of(capsys: pytest.CaptureFixture[str], dataset: str) -> dict:
    return json.loads(run(capsys, "info", dataset, "--json")[1])


def test_a_layer_is_added_listed_and_chosen_by_name(
    dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    copy = str(shutil.copytree(dataset, tmp_path / "copy"))
    options = ["--estimator", "dis", "--from-clips", "--levels", "1,4", "--workers", "1"]
    code, _, err = run(capsys, "flow", copy, *options)
    assert code == 0, err
    layers = facts_of(capsys, copy)["layers"].values()
    dis, variational = sorted(layers, key=lambda layer: layer["estimator"])
    assert (dis["frames_from"], dis["levels"]) == ("clip", [1, 4])
    assert (variational["frames_from"], variational["levels"]) == ("source", [1, 2])
    train = ["train", "--data", copy, "--out", str(tmp_path / "r"), "--preset", "tiny"]
    for layer, message in (("", "is ambiguous"), ("raft", "does not exist")):
        code, _, err = run(capsys, *train, "--stream.layer", layer, "--steps", "1")
        assert code == 2
        assert message in " ".join(err.split())
    code, _, err = run(capsys, *train, "--stream.layer", "dis", "--steps", "1")
    assert code == 2, "DIS carries no gradient"


def test_the_flow_cache_is_listed_verified_pruned_and_told_of_moves(
    dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    copy, moved = str(shutil.copytree(dataset, tmp_path / "copy")), str(tmp_path / "moved")
    cache = [f"--flow-cache={tmp_path / 'catalog'}"]
    assert run(capsys, "cache", "list", *cache)[1] == "no flow yet\n"
    assert run(capsys, "cache", "add", copy, *cache)[0] == 0
    code, out, _ = run(capsys, "cache", "list", *cache)
    assert code == 0
    assert "variational-" in out
    assert "MiB" in out
    assert copy in out
    assert run(capsys, "cache", "verify", *cache)[0] == 0
    tar = next(Path(copy).glob("flow/*/*.tar"))
    tar.write_bytes(tar.read_bytes()[:-600])
    code, out, _ = run(capsys, "cache", "verify", *cache)
    assert code == 1
    assert f"{copy}: flow/" in out
    Path(copy).rename(moved)
    assert run(capsys, "cache", "add", moved, *cache)[0] == 0
    code, out, _ = run(capsys, "cache", "prune", *cache)
    assert out.count("forgot") == 1
    assert copy in out
    assert run(capsys, "cache", "forget", moved, *cache)[0] == 0
    assert run(capsys, "cache", "list", *cache)[1] == "no flow yet\n"


def test_merged_datasets_train(
    dataset: str, demo_videos: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    other, merged = str(tmp_path / "other"), str(tmp_path / "merged")
    assert main(["build", str(Path(demo_videos[-1], "h264.mp4")), other, *BUILD]) == 0
    assert run(capsys, "merge", dataset, other, merged)[0] == 0
    assert run(capsys, "verify", merged)[0] == 0
    clips = [facts_of(capsys, url)["clips"] for url in (dataset, other, merged)]
    assert clips[0] + clips[1] == clips[2]
    options = ["--preset", "tiny", "--steps", "2"]
    code, _, err = run(capsys, "train", "--data", merged, "--out", str(tmp_path / "r"), *options)
    assert code == 0, err
    code, _, err = run(capsys, "merge", dataset, dataset, str(tmp_path / "twice"))
    assert code == 2
    assert "keys occur more than once" in " ".join(err.split())


def test_verify_says_what_is_wrong_and_exits_with_1(
    dataset: str, capsys: pytest.CaptureFixture[str]
):
    assert run(capsys, "verify", dataset)[0] == 0
    path = Path(dataset, "clips", "000000.tar")
    intact = path.read_bytes()
    damaged = bytearray(intact)
    damaged[2000] ^= 1
    path.write_bytes(damaged)
    code, out, _ = run(capsys, "verify", dataset)
    path.write_bytes(intact)
    assert code == 1
    assert "clips/000000.tar" in out


def test_inspect_writes_a_picture(dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "clip.png"
    assert run(capsys, "inspect", dataset, "--out", str(out))[0] == 0
    assert out.read_bytes().startswith(b"\x89PNG")


def test_train_takes_a_preset_and_single_values(
    dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    options = ["--preset", "tiny", "--steps", "2", "--model.dim", "48", "--model.heads", "2"]
    code, _, err = run(capsys, "train", "--data", dataset, "--out", str(tmp_path / "r"), *options)
    assert code == 0, err
    config = json.loads((tmp_path / "r" / "config.json").read_text())
    assert config["model"]["dim"] == 48
    assert len((tmp_path / "r" / "metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "only-one"], "name at least one source"),
        (["build", "/nowhere/at/all", "out"], "no such file"),
        (["build", ".", "out", "--size", "65x96"], "must be even"),
        (["build", ".", "out", "--size", "big"], "invalid"),
        (["build", ".", "out", "--flow", "magic"], "unknown flow estimator 'magic'"),
        (["build", ".", "out", "--frames", "4", "--levels", "4"], "below the 4 frames"),
        (["build", ".", "out", "--flow-cache", "nope://x"], "flow cache nope://x"),
        (["flow", "/nowhere", "--estimator", "dis"], "holds no dataset"),
        (["merge", "/nowhere", "out"], "at least two datasets"),
        (["cache", "add"], "needs a dataset"),
        (["cache", "list", "/nowhere"], "takes no dataset"),
        (["cache", "forget", "/nowhere"], "has no flow in"),
        (["verify", "/nowhere"], "holds no dataset"),
        (["train", "--data", "/nowhere", "--out", "x"], "holds no dataset"),
        (["conquer"], "conquer"),
    ],
)
def test_wrong_usage_exits_with_2_and_says_why(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path, monkeypatch
):
    (tmp_path / "video.mp4").touch()
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *arguments)
    assert code == 2
    assert message in " ".join(err.split())


def test_a_build_without_any_clip_exits_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "video.mp4").write_text("not a video")
    code, _, err = run(capsys, "build", str(tmp_path / "video.mp4"), str(tmp_path / "o"), *BUILD)
    assert code == 1
    assert "rejects: 1, clips: 0" in err
