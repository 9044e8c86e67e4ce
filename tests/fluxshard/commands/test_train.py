"""`fluxshard train`: a preset decides the defaults, options change them, Ctrl-C keeps the run."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from fluxshard.commands.train import Preset, losses
from trainer.presets import PRESETS

Run = Callable[..., tuple[int, str, str]]


def test_a_preset_and_single_values_make_a_run(dataset: str, tmp_path: Path, run: Run):
    options = ["--preset", "tiny", "--steps", "2", "--model.dim", "48", "--model.heads", "2"]
    code, _, err = run("train", "--data", dataset, "--out", str(tmp_path / "r"), *options)
    assert code == 0, err
    config = json.loads((tmp_path / "r" / "config.json").read_text())
    assert config["model"]["dim"] == 48
    assert config["model"]["depth"] == PRESETS["tiny"]().model.depth
    assert len((tmp_path / "r" / "metrics.jsonl").read_text().splitlines()) == 2


def test_the_presets_of_the_option_are_those_there_are():
    assert get_args(get_type_hints(Preset)["preset"]) == tuple(PRESETS)


@pytest.mark.parametrize("options", [["--preset=tiny"], ["--preset", "tiny"], []])
def test_the_help_shows_the_defaults_of_the_preset(options: list[str], run: Run):
    code, out, _ = run("train", *options, "--help")
    said = " ".join(out.replace("│", "").split())
    preset = "tiny" if options else "small"
    assert code == 0
    assert "--preset {small,tiny}" in said
    assert f"start from {preset}" in said
    steps = re.search(r"--steps INT .*?\(default: (\d+)\)", said)
    assert steps is not None
    assert int(steps[1]) == PRESETS[preset]().steps


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
    command += ["--checkpoint-every=1", "--flow-loss.weight=0"]
    code, said = interrupt([*command, "--steps=100000"], (out / "checkpoint.pt").exists, group=True)
    assert code == 130
    assert said.splitlines()[-1] == "interrupted; run the same command again to go on"
    assert "Traceback" not in said
    assert not list(out.rglob(".unfinished-*"))
    done = len((out / "metrics.jsonl").read_text().splitlines())
    code, _, err = run(*command, f"--steps={done + 2}")
    assert code == 0
    assert re.search(rf"steps [1-9]\d* to {done + 2} in", err)
