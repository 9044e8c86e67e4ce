import json
from dataclasses import replace
from pathlib import Path

import pytest

from shards import UsageError
from trainer.config import TrainConfig, ValidationConfig
from trainer.run.checkpoint import METRICS
from trainer.run.evaluate import evaluate
from trainer.run.loop import train
from trainer.run.restore import read_run


def test_a_run_is_judged_as_it_judged_itself(made, tmp_path: Path, config: TrainConfig) -> None:
    config = replace(config, clips=4, flow_loss=replace(config.flow_loss, weight=0.0))
    keep = ValidationConfig(share=0.4, by="key", clips=9, levels=3)
    config = replace(config, validation=keep)
    train(made.dataset.url, tmp_path, config)
    facts = read_run(tmp_path)
    assert (facts.config, facts.size, facts.data) == (config, (48, 64), made.dataset.url)
    last = json.loads((tmp_path / METRICS).read_text().splitlines()[-1])
    found = evaluate(tmp_path)
    assert found["loss"] == pytest.approx(last["val/loss"], rel=1e-6)
    assert found["by_level"] == pytest.approx(last["val/by_level"], rel=1e-6)
    assert (found["clips"], found["trained_on"]) == (3, "4 clips")
    other = evaluate(tmp_path, weights="last", levels=1)
    assert len(other["by_level"]) == 1
    assert evaluate(tmp_path, all_clips=True, levels=1)["clips"] == 6


def test_what_cannot_be_judged_is_said(made, tmp_path: Path, config: TrainConfig) -> None:
    with pytest.raises(UsageError, match="is no run: it has no config"):
        evaluate(tmp_path)
    config = replace(config, clips=2, flow_loss=replace(config.flow_loss, weight=0.0))
    train(made.dataset.url, tmp_path, config)
    with pytest.raises(UsageError, match=r"was trained on all clips.*--all-clips"):
        evaluate(tmp_path)
