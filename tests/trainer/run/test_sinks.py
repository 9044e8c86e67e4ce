import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from shards import UsageError
from trainer.config import TrainConfig
from trainer.run.ranks import Ranks
from trainer.run.sinks import listening, scalars

ALONE = Ranks(device=torch.device("cpu"))
RECORD = {"clips": 8, "loss": 0.5, "error": None, "keys": ["a"], "val/by_level": {"0.1": 2.0}}


def test_the_numbers_of_a_record_have_flat_names() -> None:
    assert scalars(RECORD) == {"clips": 8, "loss": 0.5, "val/by_level/0.1": 2.0}


def test_tensorboard_has_them_by_clips(tmp_path: Path, config: TrainConfig) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seen: list[Any] = []
    config = replace(config, tensorboard=True)
    with listening(config, tmp_path, 0, ALONE, seen.append) as listeners:
        for listen in listeners:
            listen(RECORD)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == {"clips", "loss", "val/by_level/0.1"}
    assert [(e.step, e.value) for e in events.Scalars("loss")] == [(8, 0.5)]
    assert seen == [RECORD]


def test_only_the_first_rank_tells(tmp_path: Path, config: TrainConfig) -> None:
    second = Ranks(device=torch.device("cpu"), rank=1, count=2, parallel="ddp")
    with listening(replace(config, tensorboard=True), tmp_path, 0, second, print) as listeners:
        assert listeners == []
    assert not list(tmp_path.iterdir())


def test_wandb_goes_on_with_its_run(
    tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    run = SimpleNamespace(
        log=lambda values, step: calls.append((values, step)), finish=lambda: calls.append("end")
    )

    def init(**options: Any) -> SimpleNamespace:
        calls.append(options)
        return run

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    for _ in range(2):
        with listening(replace(config, wandb="films"), tmp_path, 0, ALONE, None) as (listen,):
            listen(RECORD)
    first, logged, end, again, *_ = calls
    assert (first["project"], first["resume"], first["config"]["seed"]) == ("films", "allow", 0)
    assert first["id"] == again["id"]
    assert logged == (scalars(RECORD), 8)
    assert end == "end"


@pytest.mark.parametrize("package", ["wandb", "tensorboard"])
def test_a_package_that_is_missing_is_named(
    package: str, tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = {"wandb": "wandb", "tensorboard": "torch.utils.tensorboard"}[package]
    monkeypatch.setitem(sys.modules, module, None)
    asked: dict[str, Any] = {package: "x" if package == "wandb" else True}
    with (
        pytest.raises(UsageError, match=rf"pip install 'fluxshard\[{package}\]'"),
        listening(replace(config, **asked), tmp_path, 0, ALONE, None),
    ):
        pass
