import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch import Tensor

from flow_cache import load_estimator
from shards import UsageError
from trainer.codec.pixels import to_signal
from trainer.config import TrainConfig, ValidationConfig
from trainer.run.checkpoint import METRICS
from trainer.run.evaluate import evaluate, motion_by_level, open_kept
from trainer.run.loop import train
from trainer.run.restore import read_run
from trainer.run.validation import Validation
from trainer.stream.batch import Batch


def test_a_run_is_judged_as_it_judged_itself(
    made, tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(config, clips=4, flow_loss=replace(config.flow_loss, weight=0.0))
    keep = ValidationConfig(share=0.4, by="key", clips=9, levels=3)
    config = replace(config, validation=keep)
    train(made.dataset.url, tmp_path, config)
    facts = read_run(tmp_path)
    assert (facts.config, facts.size, facts.data) == (config, (48, 64), made.dataset.url)
    last = json.loads((tmp_path / METRICS).read_text().splitlines()[-1])
    kept = open_kept(tmp_path)
    found = evaluate(kept)
    assert found["loss"] == pytest.approx(last["val/loss"], rel=1e-6)
    assert found["by_level"] == pytest.approx(last["val/by_level"], rel=1e-6)
    assert (found["clips"], found["trained_on"]) == (3, "4 clips")
    other = evaluate(open_kept(tmp_path, weights="last", levels=1))
    assert len(other["by_level"]) == 1
    assert evaluate(open_kept(tmp_path, all_clips=True, levels=1))["clips"] == 6

    dis = load_estimator("dis")
    assert [len(clips) for clips in kept.real(2)] == [2]
    assert sum(len(clips) for clips in kept.real(9)) == 3
    judged = motion_by_level(kept, dis, 2)
    assert judged.keys() == found["by_level"].keys()
    for answer, error in ((lambda clean: clean, 0), (lambda clean: clean[:, :1], 1)):
        with monkeypatch.context() as patch:
            patch.setattr(Validation, "restored", told(answer))
            assert set(motion_by_level(kept, dis, 2).values()) == {error}


def told(answer: Callable[[Tensor], Tensor]) -> Callable[..., SimpleNamespace]:
    """In the place of `Validation.restored`: something made of the true clips."""

    def restored(judge: Validation, network: object, batch: Batch, *_: object) -> SimpleNamespace:
        clean = to_signal(batch.frames)
        return SimpleNamespace(clean=answer(clean).expand_as(clean))

    return restored


def test_what_cannot_be_judged_is_said(made, tmp_path: Path, config: TrainConfig) -> None:
    with pytest.raises(UsageError, match="is no run: it has no config"):
        open_kept(tmp_path)
    config = replace(config, clips=2, flow_loss=replace(config.flow_loss, weight=0.0))
    train(made.dataset.url, tmp_path, config)
    with pytest.raises(UsageError, match=r"was trained on all clips.*--all-clips"):
        open_kept(tmp_path)
