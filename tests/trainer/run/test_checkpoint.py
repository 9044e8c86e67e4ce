import errno
import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from shards.order import Cursor
from shards.store import UsageError
from trainer.codec.pixels import Pixels
from trainer.config import FluxFlowConfig, ModelConfig, StreamConfig, TrainConfig
from trainer.model.text import Conditioner
from trainer.run.checkpoint import (
    CHECKPOINTS,
    CONFIG,
    TOML,
    begin_from,
    latest,
    open_run,
    read_weights,
    restore,
    save,
)
from trainer.run.ranks import Ranks
from trainer.run.state import TrainState, build_network, fresh_state
from trainer.settings import read_config

ALONE = Ranks(device=torch.device("cpu"))


def fresh(config: TrainConfig) -> TrainState:
    network = build_network(config, Pixels(), Conditioner(config.conditioning))
    return fresh_state(config, network, Cursor(order={"dataset": "digest"}), ALONE)


def advanced(config: TrainConfig, clips: int = 14) -> TrainState:
    state = fresh(config)
    for parameter in state.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    for share in (1.0, 0.5):
        state.optimizer.step()
        if state.average is not None:
            state.average.update(state.model, share)
    state.step, state.cursor = 7, replace(state.cursor, position=clips).skip([3])
    return state


def saved(config: TrainConfig, out: Path, clips: int = 14, keep: int = 2) -> TrainState:
    state = advanced(config, clips)
    save(state, out, ALONE, keep)
    return state


def newest(out: Path) -> Path:
    found = latest(out)
    assert found is not None
    return found


@pytest.mark.parametrize("halflife", [0, 5])
def test_everything_comes_back(tmp_path: Path, config: TrainConfig, halflife: int) -> None:
    config = replace(config, optim=replace(config.optim, ema_clips=halflife))
    written, found = saved(config, tmp_path), fresh(replace(config, seed=9))
    restore(found, newest(tmp_path))
    assert (found.step, found.cursor) == (written.step, written.cursor)
    for a, b in zip(written.model.parameters(), found.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert (found.average is None) == (written.average is None) == (halflife == 0)
    if written.average is not None and found.average is not None:
        for name, weight in written.average.weights.items():
            assert torch.equal(weight, found.average.weights[name])
    first, second = (x.optimizer.state_dict()["state"] for x in (written, found))
    for key, kept in first.items():
        assert all(torch.equal(kept[name], second[key][name]) for name in kept)


def test_a_crash_while_saving_leaves_the_old_checkpoint(
    tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(config, tmp_path)

    def half(*_: object, checkpoint_id: Path, **__: object) -> None:
        (checkpoint_id / "__0_0.distcp").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("trainer.run.checkpoint.dcp.save", half)
    with pytest.raises(KeyboardInterrupt):
        saved(config, tmp_path, clips=28)
    assert [path.name for path in (tmp_path / CHECKPOINTS).iterdir()] == ["000000000014"]
    restore(fresh(config), newest(tmp_path))


def test_what_a_killed_run_left_is_no_checkpoint(tmp_path: Path, config: TrainConfig) -> None:
    half = tmp_path / CHECKPOINTS / ".unfinished-checkpoint"
    half.mkdir(parents=True)
    (half / "state.json").write_text("{}")
    assert latest(tmp_path) is None
    saved(config, tmp_path)
    assert newest(tmp_path).name == "000000000014"
    assert not half.exists()


def test_the_latest_are_kept(tmp_path: Path, config: TrainConfig) -> None:
    for clips in (2, 4, 100_000_000_002):
        saved(config, tmp_path, clips, keep=2)
    names = sorted(path.name for path in (tmp_path / CHECKPOINTS).iterdir())
    assert names == ["000000000004", "100000000002"]
    assert newest(tmp_path).name == "100000000002"


def test_another_run_begins_with_the_average_or_the_last_weights(
    tmp_path: Path, config: TrainConfig
) -> None:
    written = saved(config, tmp_path)
    assert written.average is not None
    averages, last = written.average.weights, dict(written.model.named_parameters())
    assert any(not torch.equal(averages[name], last[name]) for name in last)
    for which, expected in (("average", averages), ("last", last)):
        state = fresh(replace(config, seed=5))
        begin_from(state, tmp_path, which)  # type: ignore[arg-type]
        assert state.average is not None
        for name, parameter in state.model.named_parameters():
            assert torch.equal(parameter, expected[name])
            assert torch.equal(state.average.weights[name], expected[name])
        assert (state.step, state.clips) == (0, 0)


def test_weights_of_another_network_are_refused(tmp_path: Path, config: TrainConfig) -> None:
    with pytest.raises(UsageError, match="holds no checkpoint"):
        read_weights(fresh(config).model, tmp_path, "average")
    saved(config, tmp_path)
    wider = replace(config, model=ModelConfig(dim=32, depth=1, heads=2, patch=8))
    with pytest.raises(UsageError, match=r"embed.weight is \[32, 192\] here and \[16, 192\] there"):
        read_weights(fresh(wider).model, tmp_path, "average")
    deeper = replace(config, model=ModelConfig(dim=16, depth=2, heads=2, patch=8))
    with pytest.raises(UsageError, match=r"blocks\.1\..* and nothing there.*and \d+ more"):
        read_weights(fresh(deeper).model, tmp_path, "last")


def test_a_run_goes_on_only_with_its_configuration(tmp_path: Path, config: TrainConfig) -> None:
    out = tmp_path / "run"
    assert open_run(out, config, "layer-1", (48, 64), "data") is None
    assert (
        open_run(out, replace(config, seed=1), "layer-1", (48, 64), "data") is None
    )  # nothing to lose yet
    assert open_run(out, config, "layer-1", (48, 64), "data") is None
    saved(config, out)
    assert open_run(out, config, "layer-1", (48, 64), "moved") == out / CHECKPOINTS / "000000000014"

    other = replace(config, seed=1, fluxflow=FluxFlowConfig(mode="block"))
    with pytest.raises(UsageError, match=r"fluxflow.mode: frame -> block\n  seed: 0 -> 1\n"):
        open_run(out, other, "layer-1", (48, 64), "data")
    with pytest.raises(UsageError, match=r"flow_layer: layer-1 -> layer-2\n.*--init-from"):
        open_run(out, config, "layer-2", (48, 64), "data")
    assert json.loads((out / CONFIG).read_text())["seed"] == 0


def test_what_changes_no_result_may_change(tmp_path: Path, config: TrainConfig) -> None:
    open_run(tmp_path, config, None, (48, 64), "data")
    saved(config, tmp_path)
    stream: StreamConfig = replace(config.stream, threads=7, prefetch=5, cache="/kept")
    halves = replace(config.optim, accumulate=2)
    longer = replace(config, clips=100, log_steps=5, checkpoint_clips=50, parallel="fsdp2")
    longer = replace(longer, stream=stream, optim=halves)
    assert open_run(tmp_path, longer, None, (48, 64), "data") is not None
    assert json.loads((tmp_path / CONFIG).read_text())["clips"] == 100
    assert read_config(str(tmp_path / TOML), TrainConfig()) == longer


def test_an_average_that_is_not_kept_is_not_made_up(tmp_path: Path, config: TrainConfig) -> None:
    config = replace(config, optim=replace(config.optim, ema_clips=0))
    saved(config, tmp_path)
    with pytest.raises(UsageError, match=r"keeps no average.*--init-with last"):
        begin_from(fresh(config), tmp_path, "average")
    begin_from(fresh(config), tmp_path, "last")


def test_a_mount_that_syncs_no_folders_takes_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FUSE and SMB answer so; the checkpoint is there, and the run goes on."""
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    state = saved(TrainConfig(model=ModelConfig(dim=16, depth=1, heads=2)), tmp_path)
    assert newest(tmp_path).name == f"{state.clips:012d}"
