import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from shards.manifest import DamagedDataset, write_manifest
from shards.store import Store, UsageError
from tests.trainer.model.test_adapted import SETTINGS
from trainer.config import (
    CodecConfig,
    ConditioningConfig,
    FlowLossConfig,
    ModelConfig,
    OptimConfig,
    ProcessConfig,
    PyramidConfig,
    SmoothnessConfig,
    TrainConfig,
    ValidationConfig,
    WarpingConfig,
)
from trainer.run.checkpoint import CONFIG, METRICS, latest
from trainer.run.log import Record
from trainer.run.loop import (
    Summary,
    average_share,
    cores_for_the_stream,
    learning_rate,
    passed,
    train,
)
from trainer.run.restore import Trained


def run(made, out: Path, config: TrainConfig) -> tuple[Summary, list[Record]]:
    seen: list[Record] = []
    summary = train(made.dataset.url, out, config, seen.append)
    return summary, seen


def test_a_stream_in_a_helper_process_trains_the_same(
    made, tmp_path: Path, config: TrainConfig
) -> None:
    run(made, tmp_path / "training", config)
    beside = replace(config, stream=replace(config.stream, process="helper"))
    run(made, tmp_path / "helper", replace(beside, clips=8))
    run(made, tmp_path / "helper", config)  # goes on with the stream in its own process
    assert computed(tmp_path / "helper") == computed(tmp_path / "training")


def computed(out: Path) -> list[dict]:
    """The log without what depends on the clock, or is measured once a process."""
    lines = [json.loads(line) for line in (out / METRICS).read_text().splitlines()]
    skipped = ("seconds", "flow_floor", "flow_still")
    return [{key: line[key] for key in line if key not in skipped} for line in lines]


def stored(out: Path) -> dict[str, torch.Tensor]:
    """The tensors of a run's newest checkpoint, by name."""
    checkpoint = latest(out)
    assert checkpoint is not None
    reader = dcp.FileSystemReader(checkpoint)
    tensors = {
        name: torch.empty(about.size)
        for name, about in reader.read_metadata().state_dict_metadata.items()
        if isinstance(about, TensorStorageMetadata)
    }
    with pytest.warns(UserWarning, match="in a single process"):
        dcp.load(tensors, storage_reader=reader, no_dist=True)
    return tensors


def test_a_resumed_run_equals_an_uninterrupted_one(made, tmp_path: Path, config) -> None:
    config = replace(config, clips=16)
    run(made, tmp_path / "whole", config)
    for clips in (6, 8, 16):
        run(made, tmp_path / "parts", replace(config, clips=clips))
    assert computed(tmp_path / "parts") == computed(tmp_path / "whole")
    whole, parts = (stored(tmp_path / name) for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_run_killed_between_checkpoints_repeats_those_steps(made, tmp_path: Path, config) -> None:
    class Killed(Exception):
        pass

    def kill(record: Record) -> None:
        if record["step"] == 5:
            raise Killed

    run(made, tmp_path / "whole", config)
    with pytest.raises(Killed):
        train(made.dataset.url, tmp_path / "killed", config, kill)
    summary, _ = run(made, tmp_path / "killed", config)
    assert summary.first_step == 3
    assert computed(tmp_path / "killed") == computed(tmp_path / "whole")


def test_each_step_is_reported_in_full(made, tmp_path: Path, config: TrainConfig) -> None:
    summary, seen = run(made, tmp_path, replace(config, clips=24, log_steps=5))
    assert [record["step"] for record in seen] == list(range(1, 13))
    assert [record["clips"] for record in seen] == [2 * n for n in range(1, 13)]
    keys = {"step", "clips", "stage", "moved", "loss", "recon", "grad_norm", "learning_rate"}
    keys |= {"flow_loss", "flow_error", "flow_lost", "gate", "supervised", "seconds"}
    for record in seen:
        assert keys <= set(record) <= keys | {"flow_floor", "flow_still"}
        weighted = record["recon"] + record["flow_loss"]
        assert record["loss"] == pytest.approx(weighted, rel=1e-4)
        assert {"plan", "read", "decode", "stall", "transfer", "step"} <= set(record["seconds"])
        if record["gate"] == 0:
            assert (record["flow_loss"], record["flow_error"]) == (0, None)
        else:
            assert record["flow_loss"] > 0
            assert record["supervised"] == 1
    assert [sum(x in record for record in seen) for x in ("flow_floor", "flow_still")] == [1, 1]
    assert (summary.first_step, summary.last_step) == (0, 12)
    assert summary.last["step"] == 12
    assert 0 < summary.last["flow_floor"] < summary.last["flow_error"]
    assert summary.last["flow_floor"] < summary.last["flow_still"]
    assert json.loads((tmp_path / CONFIG).read_text())["model"]["dim"] == 16


def test_every_loss_is_added_as_weighted(made, tmp_path: Path, config: TrainConfig) -> None:
    config = replace(
        config,
        clips=8,
        flow_loss=FlowLossConfig(psi=2.0, balance="w_ls"),
        warping=WarpingConfig(weight=0.5),
        smoothness=SmoothnessConfig(weight=0.1),
    )
    _, seen = run(made, tmp_path, config)
    losses = ("recon", "flow_loss", "warping_loss", "smoothness_loss")
    for record in seen:
        assert record["loss"] == pytest.approx(sum(record[x] for x in losses), rel=1e-5)
        assert record["smoothness_loss"] > 0
        assert (record["warping_loss"] > 0) == (record["flow_loss"] > 0) == (record["gate"] > 0)
    assert sum("warping_floor" in record for record in seen) == 1


def test_stored_flow_of_any_estimator_guides_the_warping_loss(
    made, tmp_path: Path, config: TrainConfig
) -> None:
    """No estimator runs live: what FlowLoss would refuse of the layer does not matter."""
    off = FlowLossConfig(weight=0.0, psi=100.0, estimator="dis")
    config = replace(config, clips=2, flow_loss=off, warping=WarpingConfig(weight=1.0))
    _, (record,) = run(made, tmp_path, config)
    assert record["warping_loss"] > 0
    assert "flow_loss" not in record
    bare = tmp_path / "bare"
    bare.mkdir()
    write_manifest(Store(bare), replace(made.dataset.manifest, layers={}))
    with pytest.raises(UsageError, match=r"holds no flow, which warping need.*--warping.weight 0"):
        train(str(bare), tmp_path / "other", config)


def test_a_damaged_clip_is_told_and_ends_no_run(made, tmp_path: Path, config: TrainConfig) -> None:
    folder = Path(shutil.copytree(made.dataset.url, tmp_path / "damaged"))
    tar = folder / "clips" / "000000.tar"
    data = bytearray(tar.read_bytes())
    data[made.dataset.clips["mp4_offset"][1].as_py()] ^= 1
    tar.write_bytes(data)
    seen: list[Record] = []
    summary = train(str(folder), tmp_path / "run", config, seen.append)
    damaged = [record["damaged"] for record in seen if "damaged" in record]
    assert [*map(list, damaged)] == 2 * [["clip-1"]], "in each of two epochs"
    assert "differs from what was written" in damaged[0]["clip-1"]
    assert (summary.last_step, summary.stream["damaged"]) == (6, 2)
    one = replace(config, stream=replace(config.stream, max_damaged=0))
    with pytest.raises(DamagedDataset, match="1 samples are damaged"):
        train(str(folder), tmp_path / "strict", one)


def test_a_run_trains_on_what_its_filter_takes(made, tmp_path: Path, config: TrainConfig) -> None:
    where = "caption in ('scene 2', 'scene 4')"
    config = replace(config, stream=replace(config.stream, where=where))
    config = replace(config, clips=4, flow_loss=FlowLossConfig(weight=0))
    train(made.dataset.url, tmp_path, config)
    checkpoint = latest(tmp_path)
    assert checkpoint is not None
    cursor = json.loads((checkpoint / "state.json").read_text())["cursor"]
    assert cursor["order"]["where"] == where
    other = replace(config, clips=8, stream=replace(config.stream, where=""))
    with pytest.raises(UsageError, match=r"stream\.where: caption in .* -> \n"):
        train(made.dataset.url, tmp_path, other)


def test_a_finished_run_does_nothing_more(made, tmp_path: Path, config: TrainConfig) -> None:
    run(made, tmp_path, config)
    before = (tmp_path / METRICS).read_text()
    summary, seen = run(made, tmp_path, config)
    assert (summary.first_step, summary.last_step, seen) == (6, 6, [])
    assert (tmp_path / METRICS).read_text() == before


def test_it_learns(made, tmp_path: Path, config: TrainConfig) -> None:
    """On few clips, at noise levels where a still guess is poor, the loss must fall."""
    config = replace(
        config,
        clips=120,
        checkpoint_clips=2000,
        process=ProcessConfig(mean=0.0, std=0.3),
        pyramid=PyramidConfig(enabled=False),
        flow_loss=FlowLossConfig(weight=0.0),
        optim=OptimConfig(learning_rate=3e-3, warmup_clips=10, ema_clips=0),
        model=replace(config.model, dim=32),
    )
    _, seen = run(made, tmp_path, config)
    losses = [record["recon"] for record in seen]
    assert sum(losses[-15:]) < 0.7 * sum(losses[:15])
    assert "flow_loss" not in seen[0]


def test_without_flow_the_dataset_trains_only_without_flowloss(
    made, tmp_path: Path, config: TrainConfig
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "clips").symlink_to(Path(made.dataset.url) / "clips")
    write_manifest(Store(bare), replace(made.dataset.manifest, layers={}))
    with pytest.raises(UsageError, match=r"holds no flow.*--flow-loss.weight 0"):
        train(str(bare), tmp_path / "run", config)
    off = replace(config, clips=4, flow_loss=FlowLossConfig(weight=0))
    assert train(str(bare), tmp_path / "run", off).last_step == 2


def test_another_configuration_is_refused(made, tmp_path: Path, config: TrainConfig) -> None:
    run(made, tmp_path, config)
    with pytest.raises(UsageError, match=r"optim\.learning_rate: 0\.001 -> 0\.002"):
        run(made, tmp_path, replace(config, optim=replace(config.optim, learning_rate=2e-3)))


@pytest.mark.parametrize("per_slot", [0.0, 1.0])
def test_latents_are_learned_and_flow_is_of_what_they_show(
    made, tmp_path: Path, config: TrainConfig, per_slot: float
) -> None:
    """Nine frames are three latents of a tiny Wan; frames that share one have one noise level."""
    arguments = {"base_dim": 3, "z_dim": 16, "dim_mult": [1] * 4, "num_res_blocks": 1}
    arguments |= {"temperal_downsample": [False, True, True]}
    codec = CodecConfig(name="vae", family="AutoencoderKLWan", arguments=json.dumps(arguments))
    config = replace(
        config,
        clips=4,
        codec=codec,
        stream=replace(config.stream, frames=9),
        pyramid=PyramidConfig(enabled=False),
        process=replace(config.process, per_slot=per_slot),
        flow_loss=FlowLossConfig(psi=100.0, weight=0.1),
        model=replace(config.model, patch=1),
        validation=ValidationConfig(share=0.4, by="key", clips=2, levels=1),
    )
    summary, seen = run(made, tmp_path, config)
    assert all(line["flow_loss"] > 0 for line in seen)
    assert math.isfinite(summary.last["val/loss"])
    assert stored(tmp_path)["model.embed.weight"].shape == (16, 16)
    other = replace(config, stream=replace(config.stream, frames=8))
    with pytest.raises(UsageError, match=r"4·k \+ 1 frames"):
        run(made, tmp_path / "other", other)


def test_a_loss_that_is_no_number_stops_the_run(made, tmp_path: Path, config) -> None:
    config = replace(config, flow_loss=FlowLossConfig(weight=1e38, sigma_floor=1e-8), clips=40)
    with pytest.raises(FloatingPointError, match="not a number at step"):
        run(made, tmp_path, config)


def test_pairs_without_a_finite_flow_are_named_by_key_and_stored_frames(
    made, tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only the estimator fails, the run goes on without the pair and says which it is."""

    def failing(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        flow = (second - first)[:, :2]
        return torch.where(torch.arange(len(flow)).view(-1, 1, 1, 1) == 1, torch.nan, flow)

    estimator = SimpleNamespace(differentiable=True, pair=failing, name="failing")
    estimator.check_size = lambda size: None
    monkeypatch.setattr("trainer.run.ingredients.live_estimator", lambda *_: estimator)
    config = replace(config, clips=6, flow_loss=FlowLossConfig(psi=100.0))
    _, seen = run(made, tmp_path, config)
    for record in seen:
        assert record["loss"] is not None
        assert re.fullmatch(r"clip-\d \d-\d", *record["flow_lost"])


def test_a_run_is_told_the_class_of_each_clip(made, tmp_path: Path, config: TrainConfig) -> None:
    """All clips have 9 frames, so of ten classes one gets a gradient, and none where they drop."""
    told = ConditioningConfig(labels="frames", classes=10, dropout=0.5)
    run(made, tmp_path, replace(config, conditioning=told))
    moments = stored(tmp_path)["optimizer.state.classes.weight.exp_avg_sq"]
    moved = moments.sum(1) > 0
    assert moved.nonzero().flatten().tolist() == [9, 10]


def test_a_run_hears_the_captions_of_its_clips(
    made, tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []

    class Encoder:
        """In place of one of transformers."""

        width = 4

        def __init__(self, *_: object) -> None: ...

        def __call__(self, caption: str) -> torch.Tensor:
            heard.append(caption)
            return torch.full((len(caption), 4), 0.1)

    monkeypatch.setattr("trainer.model.text.TextEncoder", Encoder)
    told = ConditioningConfig(text="any", length=9, dropout=0.3)
    run(made, tmp_path, replace(config, conditioning=told))
    captions = {f"scene {number}" for number in range(6)}
    assert {*heard} <= captions | {""}
    assert "" in heard
    assert len({*heard} & captions) > 1
    moments = stored(tmp_path)["optimizer.state.text.project.weight.exp_avg_sq"]
    assert moments.abs().sum() > 0


def test_a_network_of_diffusers_trains(made, tmp_path: Path, config: TrainConfig) -> None:
    wan = SETTINGS["WanTransformer3DModel"] | {"in_channels": 3, "out_channels": 3}
    model = ModelConfig(family="WanTransformer3DModel", arguments=json.dumps(wan))
    summary, lines = run(made, tmp_path, replace(config, model=model, clips=4))
    assert len(lines) == 2
    assert math.isfinite(summary.last["loss"])


def test_levels_of_slots_are_refused_by_a_network_of_one(
    made, tmp_path: Path, config: TrainConfig
) -> None:
    mochi = "MochiTransformer3DModel"
    arguments = json.dumps(SETTINGS[mochi] | {"in_channels": 3})
    model = ModelConfig(family=mochi, arguments=arguments)
    process = replace(config.process, per_slot=0.2)
    with pytest.raises(UsageError, match=rf"{mochi} takes one noise level a clip"):
        run(made, tmp_path, replace(config, model=model, process=process))


def test_schedules_count_clips_whatever_the_batch(config: TrainConfig) -> None:
    rates = [learning_rate(clips, config) for clips in (2, 4, 6, 8)]
    assert rates == pytest.approx([5e-4, 1e-3, 1e-3, 1e-3])
    shares = []
    for batch in (2, 4):
        sized = replace(config, stream=replace(config.stream, batch=batch))
        kept = 1.0
        for step in range(1, 1 + 8 // batch):
            kept *= 1 - average_share(step, sized)
        shares.append(kept)
    assert shares == pytest.approx([0.25, 0.25]), "two half-lives of 4 clips"
    assert average_share(0, config) == 1
    assert [now for now in range(1, 13) if passed(4, now - 1, now)] == [4, 8, 12]
    assert [passed(4, now - 3, now) for now in (3, 6, 9, 12)] == [False, True, True, True]


def test_the_rate_falls_over_the_last_clips_of_the_run(config: TrainConfig) -> None:
    optim = replace(config.optim, warmup_clips=4, decay_clips=6)
    ending = replace(config, clips=12, optim=optim)
    rates = [learning_rate(clips, ending) for clips in range(2, 13, 2)]
    assert rates == pytest.approx([5e-4, 1e-3, 1e-3, 1e-3, 1e-3 * 4 / 6, 1e-3 * 2 / 6])
    assert learning_rate(12, replace(ending, clips=40)) == 1e-3, "that of a longer run, there"


def test_a_run_may_be_ended_by_a_falling_rate_later(made, tmp_path: Path, config) -> None:
    ended = replace(config, clips=12, optim=replace(config.optim, decay_clips=6))
    run(made, tmp_path / "whole", ended)
    run(made, tmp_path / "parts", replace(config, clips=6))
    run(made, tmp_path / "parts", ended)
    assert computed(tmp_path / "parts") == computed(tmp_path / "whole")


def test_half_of_the_threads_compute_while_it_trains() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(5)
    try:
        with cores_for_the_stream():
            assert torch.get_num_threads() == 2
        assert torch.get_num_threads() == 5
    finally:
        torch.set_num_threads(before)


def test_flow_loss_refuses_resized_frames_unless_that_is_accepted(made, tmp_path, config) -> None:
    small = replace(config, clips=2, stream=replace(config.stream, size="40x32"))
    with pytest.raises(UsageError, match=r"60x48 are shown at 40x32 .*accept-resize"):
        run(made, tmp_path, small)
    accepted = replace(small, flow_loss=FlowLossConfig(psi=1e3, accept_resize=True))
    _, seen = run(made, tmp_path, accepted)
    assert seen[-1]["flow_loss"] > 0


def test_flow_loss_takes_frames_that_are_cut_and_mirrored(made, tmp_path, config) -> None:
    cut = replace(config.stream, size="40x32", resize=False, crop="random", flip=0.5)
    config = replace(config, clips=2, stream=cut, flow_loss=FlowLossConfig(psi=1e3))
    _, seen = run(made, tmp_path, config)
    assert seen[-1]["flow_loss"] > 0


def test_a_watcher_sees_the_average_before_the_first_step_and_at_checkpoints(
    made, tmp_path: Path, config: TrainConfig
) -> None:
    seen: list[tuple[int, torch.Tensor]] = []

    def watch(model: Trained, clips: int) -> None:
        assert not model.network.training
        seen.append((clips, model.network.get_parameter("head.bias").detach().clone()))

    config = replace(config, clips=12, flow_loss=FlowLossConfig(weight=0.0))
    train(made.dataset.url, tmp_path, config, watch=watch)
    assert [clips for clips, _ in seen] == [0, 6, 12]
    tensors = stored(tmp_path)
    assert torch.equal(seen[-1][1], tensors["average.head.bias"])
    assert not torch.equal(seen[-1][1], tensors["model.head.bias"])
    train(made.dataset.url, tmp_path, replace(config, clips=14), watch=watch)
    assert [clips for clips, _ in seen[3:]] == [14], "a resumed run does not begin again"


def test_a_run_begins_with_the_weights_of_another(
    made, tmp_path: Path, config: TrainConfig
) -> None:
    config = replace(config, clips=4, flow_loss=FlowLossConfig(weight=0.0))
    train(made.dataset.url, tmp_path / "first", config)
    begun: list[torch.Tensor] = []
    tuned = replace(config, init_from=str(tmp_path / "first"), seed=1)
    summary = train(
        made.dataset.url,
        tmp_path / "second",
        tuned,
        watch=lambda model, _: begun.append(model.network.get_parameter("head.bias").clone()),
    )
    assert summary.first_step == 0
    assert torch.equal(begun[0], stored(tmp_path / "first")["average.head.bias"])
