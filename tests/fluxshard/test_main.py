"""The command line as a user meets it: overview, exit codes, what goes to which stream."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from fluxshard.main import COMMANDS, command_of
from shards import DamagedDataset, UsageError

Run = Callable[..., tuple[int, str, str]]
REPOSITORY = Path(__file__).resolve().parents[2]
OURS = {"flow_cache", "shards", "pipeline", "trainer"}
HEAVY = {"torch", "distributed", "dask", "av", "pyarrow", "numpy", "cv2", "matplotlib", "rich"}


def loaded_by(*arguments: str) -> set[str]:
    """Packages that are loaded once the command line has answered."""
    code = f"""
import sys
from fluxshard.main import main
try:
    main({list(arguments)!r})
except SystemExit as end:
    assert not end.code, end.code
print(*{{name.partition(".")[0] for name in sys.modules}})
"""
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, check=True, cwd=REPOSITORY, capture_output=True, text=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_the_overview_loads_nothing(option: str):
    assert not loaded_by(option) & (HEAVY | OURS | {"tyro"})


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_loads_no_more_than_its_options_need(command: str):
    """Those of `scan`, `build` and `train` are configurations of packages that bring much along."""
    making = {"pipeline", "flow_cache", "shards", "torch", "av", "pyarrow", "numpy", "cv2"}
    needed = {
        "scan": making,
        "build": making,
        "train": {"trainer", "flow_cache", "shards", "torch", "av", "pyarrow", "numpy", "cv2"},
    }
    assert loaded_by(command, "--help") & (HEAVY | OURS) <= needed.get(command, set())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(run: Run, command: str):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert f"usage: fluxshard {command}" in out
    assert COMMANDS[command] in " ".join(out.split())
    assert "STR..." not in out


@pytest.mark.parametrize("command", COMMANDS)
def test_the_overview_says_what_the_commands_say_of_themselves(run: Run, command: str):
    summary = command_of(command).__doc__.splitlines()[0]
    assert COMMANDS[command] == summary
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    assert re.search(rf"^  {command} +{re.escape(summary)}$", out, re.MULTILINE)


def test_without_a_command_the_overview_is_an_error(run: Run):
    code, out, err = run()
    assert (code, out) == (2, "")
    assert err == run("--help")[1]


def test_the_version_is_the_installed_one(run: Run):
    code, out, _ = run("--version")
    assert code == 0
    assert re.fullmatch(r"fluxshard \d+\.\d+\.\d+\S*\n", out)


def test_it_is_a_module_too():
    command = [sys.executable, "-m", "fluxshard", "--help"]
    done = subprocess.run(command, check=True, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stdout.startswith("usage: fluxshard")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build"], "name at least one source"),
        (["build", "only-one"], "name at least one source"),
        (["build", "."], "name, after it, the folder of the dataset"),
        (["build", "video.mp4"], "name, after it, the folder of the dataset"),
        (["build", "/nowhere/at/all", "out"], "no such file"),
        (["build", ".", "out", "--size", "65x96"], "must be even"),
        (["build", ".", "out", "--size", "0x0"], "must be even and ≥ 16"),
        (["build", ".", "out", "--size", "big"], "invalid"),
        (["build", ".", "out", "--fps", "1/0"], "divides by zero"),
        (["build", ".", "out", "--fps", "-5"], "give a positive rate"),
        (["build", ".", "out", "--crf", "99"], "0 (lossless) to 51"),
        (["build", ".", "out", "--workers", "0"], "needs 1 or more"),
        (["build", ".", "out", "--flow", "magic"], "unknown flow estimator 'magic'"),
        (["build", ".", "out", "--frames", "4", "--levels", "4"], "below the 4 frames"),
        (["build", ".", "out", "--flow-cache", "nope://x"], "nope://x"),
        (["build", ".", "video.mp4/out"], "video.mp4/out cannot be written to"),
        (["build", ".", "/proc/out"], "/proc/out cannot be written to"),
        (["scan"], "last, the folder of the table of clips"),
        (["scan", "."], "is what to scan from and no table of clips"),
        (["scan", "/nowhere/at/all", "out"], "no such file"),
        (["scan", ".", "out", "--size", "65x96"], "must be even"),
        (["build", "--clips", "/nowhere", "out"], "/nowhere: not readable as a Parquet table"),
        (["build", "--clips", "s3://b/c.parquet", "out"], "download it"),
        (["build", "out", "--clips", "video.mp4"], "not readable as a Parquet table"),
        (["rejects", "/nowhere"], "holds no dataset"),
        (["flow", "/nowhere", "--estimator", "dis"], "holds no dataset"),
        (["merge"], "at least two datasets"),
        (["merge", "/nowhere", "out"], "at least two datasets"),
        (["cache", "add"], "needs a dataset"),
        (["cache", "add", "/nowhere"], "holds no dataset"),
        (["cache", "list", "/nowhere"], "takes no dataset"),
        (["cache", "forget", "/nowhere"], "has no flow in"),
        (["verify", "/nowhere"], "holds no dataset"),
        (["info", "[/nowhere]"], "[/nowhere] holds no dataset"),
        (["inspect", "/nowhere", "--out", "x.png"], "holds no dataset"),
        (["inspect", "/nowhere", "--out", "x"], "ends in .png"),
        (["train", "--data", "/nowhere", "--out", "x"], "holds no dataset"),
        (["train", "--data", "/nowhere", "--out", "video.mp4"], "video.mp4 cannot be written to"),
        (["train", "--data", "/nowhere", "--out", "x", "--clips", "0"], "clips must be at least 1"),
        (["demo", "--out", "video.mp4/x"], "video.mp4/x cannot be written to"),
        (["conquer"], "'conquer' is no command"),
    ],
)
def test_wrong_usage_exits_with_2_and_a_sentence(
    arguments: list[str],
    message: str,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    (tmp_path / "video.mp4").touch()
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert message in " ".join(err.split())
    assert not (tmp_path / "out" / "manifest.json").exists()


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Make `info` end in an error."""

    def info(dataset: str) -> int:
        raise error

    monkeypatch.setattr("fluxshard.commands.views.info.info", info)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (UsageError("[/old] \udcff is [red]wrong[/]"), 2),
        (DamagedDataset("[/old] \udcff is [red]damaged[/]"), 1),
        (FloatingPointError("[/old] \udcff is [red]lost[/]"), 1),
    ],
)
def test_what_a_sentence_explains_is_said_in_one(
    error: Exception, expected: int, run: Run, monkeypatch: pytest.MonkeyPatch
):
    failing(monkeypatch, error)
    code, out, err = run("info", "--dataset", "x")
    assert (code, out) == (expected, "")
    assert err == f"error: {error}\n".replace("\udcff", "\\udcff")


@pytest.mark.parametrize("error", [ValueError("ours"), OSError(28, "no space"), KeyError("x")])
def test_a_fault_of_ours_or_of_the_machine_passes(
    error: Exception, run: Run, monkeypatch: pytest.MonkeyPatch
):
    failing(monkeypatch, error)
    with pytest.raises(type(error)) as caught:
        run("info", "--dataset", "x")
    assert caught.value is error


@pytest.mark.usefixtures("answers_ctrl_c")
def test_ctrl_c_ends_a_command_once_and_says_how_to_go_on(
    run: Run, monkeypatch: pytest.MonkeyPatch
):
    cleaned = []

    def info(dataset: str) -> int:
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            os.kill(os.getpid(), signal.SIGINT)  # impatient: must not cut this short
            cleaned.append(dataset)
        return 0

    monkeypatch.setattr("fluxshard.commands.views.info.info", info)
    code, out, err = run("info", "--dataset", "x")
    assert (code, out, cleaned) == (130, "", ["x"])
    assert err == "interrupted; run the same command again to go on\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("answers_ctrl_c")
def test_ctrl_c_in_an_import_waits_for_its_end(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """As `import torch` does, the module swallows what it is stopped by."""
    (tmp_path / "swallows.py").write_text(
        "import os, signal, time\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(0.2)\n"
        "    whole = True\n"
        "except KeyboardInterrupt:\n"
        "    whole = False\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = []

    def info(dataset: str) -> int:
        found.append(import_module("swallows").whole)
        time.sleep(10)
        return 0

    monkeypatch.setattr("fluxshard.commands.views.info.info", info)
    code, _, err = run("info", "--dataset", "x")
    assert (code, found) == (130, [True])
    assert err == "interrupted; run the same command again to go on\n"
