"""A configuration comes back from what is written of it; a file says only what there is."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from shards import UsageError
from trainer.config import FlowLossConfig, PyramidConfig, StreamConfig, TrainConfig
from trainer.presets import METHODS, PRESETS
from trainer.settings import config_of, read_config, to_toml

ODD = replace(
    TrainConfig(),
    flow_loss=FlowLossConfig(psi=math.inf),
    pyramid=PyramidConfig(ends=(0.0, 1.0)),
    stream=StreamConfig(where='caption == "a\\"b\t\x7f\n" and 寿 > 1', frames=16),
    wandb="na\u00efve 🎞",
)


@pytest.mark.parametrize(
    "config",
    [ODD, *(method(preset()) for preset in PRESETS.values() for method in METHODS.values())],
)
def test_what_is_written_is_read(config: TrainConfig, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(to_toml(config), encoding="utf-8")
    assert read_config(str(file), TrainConfig()) == config
    assert config_of(json.loads(json.dumps(asdict(config)))) == config


def test_a_file_changes_what_it_names(tmp_path: Path) -> None:
    file, base = tmp_path / "config.toml", PRESETS["tiny"]()
    file.write_text("seed = 4\n[flow-loss]\nweight = 1\n[pyramid]\nends = [0, 1]\n")
    found = read_config(str(file), base)
    expected = replace(base, seed=4, flow_loss=replace(base.flow_loss, weight=1.0))
    assert found == replace(expected, pyramid=PyramidConfig(ends=(0.0, 1.0)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sede = 1", "there is no setting sede; there are clips, seed"),
        ("[optim]\nlr = 1", "there is no setting optim.lr; there are learning_rate"),
        ("seed = 1.5", "seed must be a int, got 1.5"),
        ("seed = true", "seed must be a int, got True"),
        ("tensorboard = 1", "tensorboard must be a bool"),
        ('parallel = "dp"', "parallel must be one of 'auto', 'none', 'ddp', 'fsdp2', got 'dp'"),
        ("stream = 3", "stream is a table of settings, got 3"),
        ("[pyramid]\nends = [0, 'x']", "pyramid.ends must be a float, got 'x'"),
        ("[fluxflow]\ncount = 'x'", "fluxflow.count must be a int"),
        ("clips = 0", "clips must be at least 1"),
        ("a = ", "cannot be read as TOML"),
    ],
)
def test_what_a_file_cannot_say_is_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        read_config(str(file), TrainConfig())
    assert str(file) in str(caught.value)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match=r"none\.toml cannot be read"):
        read_config("none.toml", TrainConfig())
