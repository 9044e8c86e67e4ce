"""Any number of ranks computes what one does: torchrun starts real processes, over gloo."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from shards import UsageError
from trainer.config import (
    FlowLossConfig,
    ModelConfig,
    OptimConfig,
    ProcessConfig,
    StreamConfig,
    TrainConfig,
    ValidationConfig,
)
from trainer.run.checkpoint import METRICS
from trainer.run.log import Record
from trainer.run.loop import train
from trainer.run.ranks import Ranks, place

ROOT = Path(__file__).resolve().parents[3]


def torchrun(ranks: int, data: str, out: Path, config: TrainConfig) -> None:
    """The runs of `rank.py`, by so many processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(ranks), str(Path(__file__).with_name("rank.py"))]
    command += [data, str(out), json.dumps(asdict(config))]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-4000:]


def lines(out: Path) -> list[Record]:
    return [json.loads(line) for line in (out / METRICS).read_text().splitlines()]


def assert_alike(ours: list[Record], theirs: list[Record]) -> None:
    """The same batches, and losses up to rounding."""
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        for name in ("step", "clips", "stage", "learning_rate"):
            assert one[name] == other[name]
        # The estimator of flow makes much of the last bits: one of its steps more or less.
        for name in ("loss", "flow_loss", "grad_norm"):
            assert one[name] == pytest.approx(other[name], rel=5e-3, abs=1e-7), name
        for name in ("recon", "moved", "gate"):
            assert one[name] == pytest.approx(other[name], rel=1e-5), name
        assert ("val/by_level" in one) == ("val/by_level" in other) == (one["step"] % 2 == 0)
        if "val/by_level" in one:
            assert one["val/by_level"] == pytest.approx(other["val/by_level"], rel=1e-4)


@pytest.fixture(scope="module")
def shared_config() -> TrainConfig:
    return TrainConfig(
        clips=16,
        device="cpu",
        log_steps=1,
        checkpoint_clips=8,
        stream=StreamConfig(frames=8, batch=4, threads=2, window=2),
        flow_loss=FlowLossConfig(psi=2.0),
        process=ProcessConfig(align=True),
        model=ModelConfig(dim=16, depth=2, heads=2, patch=8),
        optim=OptimConfig(learning_rate=1e-3, warmup_clips=4, ema_clips=4),
        validation=ValidationConfig(share=0.3, by="key", every_clips=8, clips=3, levels=3),
    )


@pytest.fixture(scope="module")
def alone(made, shared_config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    out = tmp_path_factory.mktemp("alone")
    train(made.dataset.url, out, shared_config)
    return out


@pytest.fixture(scope="module")
def two(made, shared_config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two."""
    out = tmp_path_factory.mktemp("two")
    torchrun(2, made.dataset.url, out, shared_config)
    return out


@pytest.mark.parametrize("kind", ["ddp", "ddp-accumulated", "fsdp2", "fsdp2-accumulated"])
def test_two_ranks_compute_what_one_does(kind: str, alone: Path, two: Path) -> None:
    found = lines(two / kind)
    assert len(found) == (4 if kind == "ddp" else 2)
    assert any(line["flow_loss"] > 0 for line in found)
    assert_alike(found, lines(alone)[: len(found)])


@pytest.mark.parametrize("kind", ["ddp-accumulated", "fsdp2"])
def test_a_run_goes_on_with_fewer_ranks(
    kind: str, made, alone: Path, two: Path, shared_config: TrainConfig
) -> None:
    train(made.dataset.url, two / kind, shared_config)
    assert_alike(lines(two / kind), lines(alone))


@pytest.mark.drill
def test_four_ranks_compute_what_one_does(
    made, alone: Path, tmp_path: Path, shared_config: TrainConfig
) -> None:
    torchrun(4, made.dataset.url, tmp_path, shared_config)
    assert_alike(lines(tmp_path / "ddp"), lines(alone))


@pytest.mark.parametrize(
    ("changes", "world", "message"),
    [
        ({"parallel": "fsdp2"}, None, "this process is the only one.*torchrun"),
        ({"parallel": "none"}, 2, "torchrun started 2 processes"),
        ({"optim": OptimConfig(accumulate=4)}, 4, "8 clips cannot be split evenly over 4 ranks"),
        ({}, 3, "stream.batch a multiple of 3"),
    ],
)
def test_processes_that_do_not_suit_are_refused(
    changes: dict, world: int | None, message: str
) -> None:
    config = replace(TrainConfig(device="cpu"), **changes)
    environment = {} if world is None else {"RANK": "1", "WORLD_SIZE": str(world)}
    with pytest.raises(UsageError, match=message):
        place(config, environment)


def test_torchrun_s_variables_say_where_a_process_stands() -> None:
    config = TrainConfig(device="cpu")
    assert place(config, {}) == Ranks(device=torch.device("cpu"))
    second = place(config, {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"})
    assert (second.rank, second.count, second.parallel) == (1, 2, "ddp")
    assert not second.leads
    lone = place(replace(config, parallel="fsdp2"), {"RANK": "0", "WORLD_SIZE": "1"})
    assert (lone.parallel, lone.are_alone) == ("fsdp2", False)


def test_what_rank_0_alone_does_is_done_by_none_else() -> None:
    calls: list[int] = []
    one = Ranks(device=torch.device("cpu"))
    assert one.lead(lambda: len(calls)) == 0
    assert one.gather("x") == ["x"]
    with pytest.raises(KeyError):
        one.lead(lambda: {"y": 1}["x"])
    assert Ranks(device=torch.device("cpu"), rank=1).lead(lambda: calls.append(1)) is None
    assert not calls
