"""The command line as a user meets it: help, exit codes, what goes to which stream."""

import json
from pathlib import Path

import pytest

from fluxshard import main

BUILD = ["--size", "48x64", "--frames", "9", "--fps", "12", "--flow", "variational"]
BUILD += ["--levels", "1,2", "--workers", "1"]


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


@pytest.mark.parametrize("command", ["build", "verify", "info", "inspect", "train", "demo"])
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
