"""What is said of a run's motion, and what is refused."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from fluxshard.commands.runs.judging import Judging, judge_motion, motion_rows
from shards import UsageError
from trainer.config import ProcessConfig, PyramidConfig, TrainConfig
from trainer.run.restore import RunFacts

CONFIG = TrainConfig()
FACTS = RunFacts(config=CONFIG, size=(48, 64), data="d", layer="dis-0123456789ab")


def kept(config: TrainConfig = CONFIG) -> Any:
    """As much of a run as is looked at before anything is made."""
    return SimpleNamespace(config=config, facts=replace(FACTS, config=config))


def test_the_estimator_is_none_that_the_run_learned_from() -> None:
    taught = replace(CONFIG, flow_loss=replace(CONFIG.flow_loss, estimator="variational"))
    assert FACTS.estimators == {"dis"}
    assert replace(FACTS, config=taught).estimators == {"dis", "variational"}
    assert replace(FACTS, config=taught, layer=None).estimators == set()
    with pytest.raises(UsageError, match=r"trained with the flow estimator 'dis'.*variational"):
        judge_motion(kept(), Judging(samples=2, steps=2, estimator="dis"))


def test_a_run_that_goes_on_from_given_frames_samples_nothing_without() -> None:
    given = ProcessConfig(given=1)
    config = replace(CONFIG, process=given, pyramid=PyramidConfig(enabled=False))
    with pytest.raises(UsageError, match=r"from 1 given frames.*--samples 0"):
        judge_motion(kept(config), Judging(samples=2, steps=2))


@pytest.mark.parametrize(("samples", "steps", "wrong"), [(-1, 1, "samples is -1"), (1, 0, "steps")])
def test_counts_are_whole(samples: int, steps: int, wrong: str) -> None:
    with pytest.raises(UsageError, match=wrong):
        Judging(samples=samples, steps=steps)


def test_how_much_moves_stands_beside_what_standing_still_is_best_in() -> None:
    figures = {"clips": 2.0, "flicker": 0.01, "motion_px": 0.5, "tcs": None, "motion_ratio": 0.25}
    real = {"real_flicker": 0.04, "real_motion_px": 2.0}
    rows = motion_rows({"by_level": {"0.1": 0.5}, "figures": figures | real})
    assert rows == [
        ("motion error at level 0.1", "0.5", "0", "1: stands still"),
        ("clips", "2", "", ""),
        ("flicker", "0.01", "0.04", "moves 0.25 of real"),
        ("motion_px", "0.5", "2", ""),
        ("tcs", "–", "", "moves 0.25 of real"),
        ("motion_ratio", "0.25", "", ""),
    ]
