"""A run read back: its configuration, and its weights or their average."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from shards import UsageError
from tests.trainer.run.test_loop import stored
from trainer.config import OptimConfig, PyramidConfig, TrainConfig
from trainer.run.checkpoint import CONFIG, open_run
from trainer.run.loop import train
from trainer.run.restore import load_trained, read_run

CPU = torch.device("cpu")


def test_the_configuration_is_the_one_of_the_training(tmp_path: Path, config: TrainConfig) -> None:
    config = replace(config, pyramid=PyramidConfig(ends=(0.0, 1.0)))
    open_run(tmp_path, config, "a-layer", (48, 64))
    facts = read_run(tmp_path)
    assert facts.config == config
    assert facts.size == (48, 64)


def test_what_is_no_run_of_this_version_is_refused(tmp_path: Path, config: TrainConfig) -> None:
    with pytest.raises(UsageError, match=r"is no run: it has no config\.json"):
        read_run(tmp_path)
    open_run(tmp_path, config, None, (48, 64))
    tree = json.loads((tmp_path / CONFIG).read_text())
    for changed, problem in (
        ({**tree, "model": {"width": 3}}, r"config\.json: there is no setting model\.width"),
        ({name: tree[name] for name in tree if name != "size"}, "does not say its 'size'"),
    ):
        (tmp_path / CONFIG).write_text(json.dumps(changed))
        with pytest.raises(UsageError, match=problem):
            read_run(tmp_path)
    with pytest.raises(UsageError, match="holds no checkpoint"):
        load_trained(tmp_path, config, CPU)


@pytest.mark.parametrize("halflife", [2, 0])
def test_the_weights_are_the_average_or_the_last(
    made, tmp_path: Path, config: TrainConfig, halflife: int
) -> None:
    optim = OptimConfig(learning_rate=1e-2, warmup_clips=0, ema_clips=halflife)
    config = replace(config, clips=4, optim=optim)
    train(made.dataset.url, tmp_path, config)
    assert read_run(tmp_path).size == made.spec.size
    saved = stored(tmp_path)
    last = load_trained(tmp_path, config, CPU, average=False).network
    assert not last.training
    assert all(torch.equal(x, saved[f"model.{name}"]) for name, x in last.state_dict().items())
    if not halflife:
        with pytest.raises(UsageError, match=r"keeps no average.*sample --no-ema"):
            load_trained(tmp_path, config, CPU)
        return
    average = load_trained(tmp_path, config, CPU).network.state_dict()
    assert all(torch.equal(x, saved[f"average.{name}"]) for name, x in average.items())
    assert any(not torch.equal(x, saved[f"model.{name}"]) for name, x in average.items())
