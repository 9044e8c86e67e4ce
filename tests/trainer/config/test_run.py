from dataclasses import fields, replace
from typing import Any

import pytest

from shards.store import UsageError
from trainer.config import (
    FlowLossConfig,
    FluxFlowConfig,
    OptimConfig,
    ProcessConfig,
    PyramidConfig,
    StreamConfig,
    TrainConfig,
)


@pytest.mark.parametrize("name", ["clips", "log_steps", "checkpoint_clips", "keep_checkpoints"])
def test_counts_begin_at_one(name: str) -> None:
    bad: dict[str, Any] = {name: 0}
    with pytest.raises(UsageError, match=name):
        TrainConfig(**bad)


def test_frames_are_whole_at_the_coarsest_stage() -> None:
    with pytest.raises(UsageError, match=r"stream.frames must be a multiple of 4.*got 18"):
        TrainConfig(stream=StreamConfig(frames=18))


@pytest.mark.parametrize("frames", [16, 17])
def test_frames_may_be_one_more_as_codecs_want_them(frames: int) -> None:
    assert TrainConfig(stream=StreamConfig(frames=frames)).pyramid.coarsest == 4


@pytest.mark.parametrize(
    ("frames", "fluxflow", "message"),
    [
        (16, FluxFlowConfig(ratio=0.01), "ratio 0.01 chooses 0 of 16 frames"),
        (16, FluxFlowConfig(mode="block", block=16), "0 of 1 blocks"),
        (4, FluxFlowConfig(), "chooses 0 of 4 frames"),
        (4, FluxFlowConfig(count=2), "to move 0.25 of the 1 at stride 4"),
        (4, FluxFlowConfig(count=2, derangement=True), "to move 0.5 of the 1 at stride 4"),
        (16, FluxFlowConfig(mode="block", block=8), "count None and ratio None chooses 0 of 2"),
        (16, FluxFlowConfig(count=17), "to move 16 of the 16 at stride 1"),
        (16, FluxFlowConfig(ratio=1.0), "to move 7.5 of the 8 at stride 2, .* at most 7"),
        (16, FluxFlowConfig(count=14), "to move 3.25 of the 4 at stride 4, .* at most 3"),
    ],
)
def test_a_shuffle_that_cannot_move_its_share_at_every_stage_is_refused(
    frames: int, fluxflow: FluxFlowConfig, message: str
) -> None:
    stream, fluxflow = StreamConfig(frames=frames), replace(fluxflow, before_stride=False)
    with pytest.raises(UsageError, match=f"{message}.*fluxflow.mode to off"):
        TrainConfig(stream=stream, fluxflow=fluxflow)
    TrainConfig(stream=stream, fluxflow=FluxFlowConfig(mode="off"))


def test_shuffling_before_the_stride_asks_only_for_what_the_full_rate_has() -> None:
    stream = StreamConfig(frames=4)
    TrainConfig(stream=stream, fluxflow=FluxFlowConfig(count=2))
    with pytest.raises(UsageError, match="chooses 0 of 4 frames"):
        TrainConfig(stream=stream, fluxflow=FluxFlowConfig())


def test_frames_need_no_multiple_without_a_pyramid() -> None:
    config = replace(TrainConfig(), pyramid=PyramidConfig(enabled=False))
    assert replace(config, stream=StreamConfig(frames=17)).pyramid.coarsest == 1


def test_nothing_can_be_changed_after_birth() -> None:
    with pytest.raises(AttributeError):
        TrainConfig().seed = 1  # type: ignore[misc]
    assert len({field.name for field in fields(TrainConfig)}) == len(fields(TrainConfig))


def test_the_frames_of_every_bucket_fit_the_pyramid() -> None:
    TrainConfig(stream=StreamConfig(frames=18, buckets=("64x48x16", "64x48x32")))
    with pytest.raises(UsageError, match=r"frames of stream\.buckets must be a multiple of 4.*18"):
        TrainConfig(stream=StreamConfig(buckets=("64x48x16", "64x48x18")))


def test_given_slots_are_the_same_frames_at_every_stage() -> None:
    TrainConfig(process=ProcessConfig(given=1))
    TrainConfig(process=ProcessConfig(given=4), pyramid=PyramidConfig(enabled=False))
    with pytest.raises(UsageError, match=r"process.given 2 counts slots.* set it to 1"):
        TrainConfig(process=ProcessConfig(given=2))


@pytest.mark.parametrize("balance", ["w_ss", "w_ls"])
@pytest.mark.parametrize("kind", ["flow", "ddim"])
def test_weighted_averages_are_of_edms_loss(balance: Any, kind: Any) -> None:
    loss, process = FlowLossConfig(balance=balance), ProcessConfig(kind=kind)
    with pytest.raises(UsageError, match=rf"balance {balance} divides .* process.kind {kind} has"):
        TrainConfig(flow_loss=loss, process=process)
    TrainConfig(flow_loss=loss)
    TrainConfig(flow_loss=replace(loss, weight=0.0), process=process)


def test_a_batch_has_equal_parts() -> None:
    with pytest.raises(UsageError, match=r"optim\.accumulate, got 8 clips in 3 parts"):
        TrainConfig(stream=StreamConfig(batch=8), optim=OptimConfig(accumulate=3))
