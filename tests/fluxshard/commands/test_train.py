"""`fluxshard train`: a preset decides the defaults, options change them, Ctrl-C keeps the run."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from fluxshard.commands.train import Start, Status, losses
from trainer.config import TrainConfig
from trainer.presets import METHODS, PRESETS
from trainer.run.checkpoint import latest
from trainer.run.failures import RunFailed
from trainer.settings import read_config

Run = Callable[..., tuple[int, str, str]]


def test_a_preset_and_single_values_make_a_run(dataset: str, tmp_path: Path, run: Run):
    options = ["--preset", "tiny", "--clips", "8", "--model.dim", "48", "--model.heads", "2"]
    code, _, err = run("train", "--data", dataset, "--out", str(tmp_path / "r"), *options)
    assert code == 0, err
    config = json.loads((tmp_path / "r" / "config.json").read_text())
    assert config["model"]["dim"] == 48
    assert config["model"]["depth"] == PRESETS["tiny"]().model.depth
    assert len((tmp_path / "r" / "metrics.jsonl").read_text().splitlines()) == 2


def test_the_presets_of_the_option_are_those_there_are():
    assert get_args(get_type_hints(Start)["preset"]) == tuple(PRESETS)
    methods, unset = get_args(get_type_hints(Start)["method"])
    assert (get_args(methods), unset) == (tuple(METHODS), type(None))


@pytest.mark.parametrize("options", [["--preset=tiny"], ["--preset", "tiny"], []])
def test_the_help_shows_the_defaults_of_the_preset(options: list[str], run: Run):
    code, out, _ = run("train", *options, "--help")
    said = " ".join(out.replace("│", "").split())
    preset = "tiny" if options else "small"
    assert code == 0
    assert "--preset {small,tiny}" in said
    assert f"start from {preset}" in said
    clips = re.search(r"--clips INT .*?\(default: (\d+)\)", said)
    assert clips is not None
    assert int(clips[1]) == PRESETS[preset]().clips


def test_an_unknown_preset_is_wrong_usage(run: Run):
    code, _, err = run("train", "--data", "d", "--out", "o", "--preset", "[/huge]")
    assert code == 2
    assert "[/huge]" in err
    assert "'tiny'" in err


def test_losses_are_those_that_the_record_has():
    assert losses({"loss": 1.23456, "recon": 0.5, "flow_loss": None}) == "loss 1.235  recon 0.5"
    lost = ["a 0-1", "b 1-2", "c 0-1", "d 0-1"]
    assert losses({"loss": 1.0, "flow_lost": lost[:1]}) == "loss 1  no finite flow: a 0-1"
    assert losses({"flow_lost": lost}) == "no finite flow: a 0-1, b 1-2, c 0-1, …"


def test_ctrl_c_keeps_the_checkpoint_and_the_same_command_goes_on(
    dataset: str, tmp_path: Path, run: Run, interrupt: Callable[..., tuple[int, str]]
):
    out = tmp_path / "run"
    command = ["train", "--data", dataset, "--out", str(out), "--preset=tiny", "--device=cpu"]
    command += ["--checkpoint-clips=4", "--flow-loss.weight=0"]
    code, said = interrupt([*command, "--clips=400000"], lambda: bool(latest(out)), group=True)
    assert code == 130
    assert said.splitlines()[-1] == "interrupted; run the same command again to go on"
    assert "Traceback" not in said
    assert not list(out.rglob(".unfinished-*"))
    done = len((out / "metrics.jsonl").read_text().splitlines())
    code, _, err = run(*command, f"--clips={4 * (done + 2)}")
    assert code == 0
    assert re.search(rf"steps [1-9]\d* to {done + 2} in", err)


def test_a_file_and_a_method_are_where_the_other_options_start(tmp_path: Path, run: Run):
    file = tmp_path / "a.toml"
    file.write_text("seed = 3\n[optim]\nlearning_rate = 0.5\n")
    options = ["--preset=tiny", "--method", "fvdm", "--config", str(file), "--seed=4"]
    code, out, _ = run("train", *options, "--print-config")
    assert code == 0
    printed = tmp_path / "b.toml"
    printed.write_text(out)
    found = read_config(str(printed), TrainConfig())
    base = METHODS["fvdm"](PRESETS["tiny"]())
    assert found == replace(base, seed=4, optim=replace(base.optim, learning_rate=0.5))
    code, out, _ = run("train", "--config", str(printed), "--print-config")
    assert (code, out) == (0, printed.read_text())


def test_a_setting_that_is_not_there_is_wrong_usage(tmp_path: Path, run: Run):
    file = tmp_path / "a.toml"
    file.write_text("[optim]\nrate = 1\n")
    code, _, err = run("train", "--data", "d", "--out", "o", "--config", str(file))
    assert code == 2
    assert "there is no setting optim.rate" in err


def test_the_live_line_tells_pace_and_stalls():
    status = Status()
    line = {"clips": 8, "loss": 1.0, "seconds": {"step": 9.0, "stall": 9.0}, "val/loss": 0.5}
    assert status(line) == "loss 1  val/loss 0.5"
    said = ""
    for clips in (16, 24):
        line = {"clips": clips, "loss": 2.0, "seconds": {"step": 2.0, "stall": 0.5}}
        said = status(line)
    assert said == "loss 2  val/loss 0.5  4 clips/s  stall 25%"


def test_a_run_that_cannot_go_on_is_a_sentence(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> None:
        raise RunFailed("the device is out of memory: raise optim.accumulate")

    monkeypatch.setattr("trainer.run.loop.train", fail)
    code, _, err = run("train", "--data", "d", "--out", str(tmp_path))
    assert code == 1
    assert err.splitlines()[-1].startswith("error: the device is out of memory")
