import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from shards.order import Cursor
from shards.store import UsageError
from trainer.config import FluxFlowConfig, StreamConfig, TrainConfig
from trainer.run.checkpoint import CHECKPOINT, CONFIG, TrainState, open_run
from trainer.run.loop import fresh_state

CPU = torch.device("cpu")


def advanced(config: TrainConfig) -> TrainState:
    state = fresh_state(config, Cursor(order={"dataset": "digest", "seed": config.seed}), CPU)
    for parameter in state.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    if state.average is not None:
        state.average.update_parameters(state.model)
    state.step, state.cursor = 7, replace(state.cursor, position=14).skip([3])
    return state


@pytest.mark.parametrize("halflife", [0, 5])
def test_everything_comes_back(tmp_path: Path, config: TrainConfig, halflife: int) -> None:
    config = replace(config, optim=replace(config.optim, ema_halflife=halflife))
    saved, found = advanced(config), fresh_state(replace(config, seed=9), Cursor(order={}), CPU)
    saved.save(tmp_path)
    found.restore(tmp_path, CPU)
    assert (found.step, found.cursor) == (saved.step, saved.cursor)
    for part in ("model", "average"):
        ours, theirs = getattr(saved, part), getattr(found, part)
        assert (ours is None) == (theirs is None) == (part == "average" and halflife == 0)
        if ours is not None:
            for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
                assert torch.equal(a, b)
    a, b = saved.optimizer.state_dict()["state"], found.optimizer.state_dict()["state"]
    assert all(torch.equal(a[key]["exp_avg"], b[key]["exp_avg"]) for key in a)


def test_a_crash_while_saving_leaves_the_old_checkpoint(
    tmp_path: Path, config: TrainConfig, monkeypatch
) -> None:
    state = advanced(config)
    state.save(tmp_path)
    before = (tmp_path / CHECKPOINT).read_bytes()

    def half(_: object, file) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        state.save(tmp_path)
    assert (tmp_path / CHECKPOINT).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [CHECKPOINT]


def test_a_run_goes_on_only_with_its_configuration(tmp_path: Path, config: TrainConfig) -> None:
    out = tmp_path / "run"
    assert open_run(out, config, "layer-1", (48, 64)) is False
    assert (
        open_run(out, replace(config, seed=1), "layer-1", (48, 64)) is False
    )  # nothing to lose yet
    assert open_run(out, config, "layer-1", (48, 64)) is False
    (out / CHECKPOINT).write_bytes(b"")
    assert open_run(out, config, "layer-1", (48, 64)) is True

    other = replace(config, seed=1, fluxflow=FluxFlowConfig(mode="block"))
    with pytest.raises(UsageError, match=r"fluxflow.mode: frame -> block\n  seed: 0 -> 1\n"):
        open_run(out, other, "layer-1", (48, 64))
    with pytest.raises(UsageError, match="flow_layer: layer-1 -> layer-2"):
        open_run(out, config, "layer-2", (48, 64))
    assert json.loads((out / CONFIG).read_text())["seed"] == 0


def test_what_changes_no_result_may_change(tmp_path: Path, config: TrainConfig) -> None:
    open_run(tmp_path, config, None, (48, 64))
    (tmp_path / CHECKPOINT).write_bytes(b"")
    stream: StreamConfig = replace(config.stream, threads=7, prefetch=5)
    longer = replace(config, steps=100, log_every=5, checkpoint_every=50, stream=stream)
    assert open_run(tmp_path, longer, None, (48, 64)) is True
    assert json.loads((tmp_path / CONFIG).read_text())["steps"] == 100
