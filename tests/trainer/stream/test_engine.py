import itertools
import threading
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
import torch

from shards.clip_video import decode_clip
from shards.index import Dataset
from shards.manifest import DamagedDataset
from shards.order import Cursor
from shards.store import UsageError
from trainer.config import FlowLossConfig, FluxFlowConfig, StreamConfig, TrainConfig
from trainer.stream.batch import Batch
from trainer.stream.engine import Loader
from trainer.temporal.plan import subsample, window
from trainer.temporal.recipe import ClipFacts, SamplePlan, TrainRecipe
from trainer.temporal.stages import Stage, stages


def loader_of(made, config: TrainConfig, *rest, **options) -> Loader:
    """The stream of a training run."""
    recipe = TrainRecipe(config)
    return Loader(made.dataset, config.stream, recipe, *rest, seed=config.seed, **options)


def take(loader: Loader, count: int) -> list[Batch]:
    batches = iter(loader)
    taken = list(itertools.islice(batches, count))
    batches.close()
    return taken


def same(a: Batch, b: Batch) -> bool:
    flows = [a.flow, b.flow]
    if None in flows and flows != [None, None]:
        return False
    assert a.levels is not None
    assert b.levels is not None
    parts = [("rows", "slots", "hops", "flow", "visible")] if a.flow else []
    return (
        torch.equal(a.frames, b.frames)
        and torch.equal(a.levels, b.levels)
        and (a.keys, a.positions, a.cursor, a.stage) == (b.keys, b.positions, b.cursor, b.stage)
        and all(
            torch.equal(getattr(a.flow, name), getattr(b.flow, name))
            for names in parts
            for name in names
        )
    )


def test_a_batch_holds_what_its_plans_say(made, config: TrainConfig) -> None:
    layer = made.dataset.layer("variational")
    rows = {key: row for row, key in enumerate(made.dataset.clips["key"].to_pylist())}
    stages, supervised = set(), 0
    for batch in take(loader_of(made, config, layer), 20):
        stages.add(batch.stage.number)
        slots = 8 // batch.stage.stride
        assert batch.frames.shape == (2, slots, 3, 48, 64)
        assert batch.time.tolist() == [batch.stage.stride * i for i in range(slots)]
        low, high = batch.stage.interval.end, batch.stage.interval.start
        assert batch.levels is not None
        assert batch.levels.shape == (2, slots)
        assert ((batch.levels > low) & (batch.levels <= high)).all()
        for index, (key, plan) in enumerate(zip(batch.keys, batch.plans, strict=True)):
            video = loader_of(made, config).reader.member(rows[key], "mp4")
            shown = decode_clip(video)[plan.src_index]
            assert (batch.frames[index].numpy() == shown).all()
            assert batch.captions[index] == key.replace("clip-", "scene ")
        if batch.flow is None:
            assert (batch.levels >= config.flow_loss.psi).all()
            continue
        below = (batch.levels < config.flow_loss.psi).all(dim=1)
        assert batch.flow.rows.tolist() == below.nonzero()[:, 0].tolist()
        for index, sample in enumerate(batch.flow.rows.tolist()):
            supervised += 1
            expected = made.targets({rows[batch.keys[sample]]: batch.plans[sample]})
            for name in ("slots", "hops", "flow", "visible"):
                ours, theirs = getattr(batch.flow, name)[index], getattr(expected, name)[0]
                assert torch.equal(ours, theirs)
    assert stages == {1, 2, 3}
    assert supervised > 4


def test_stored_flow_reaches_the_batch_within_the_stated_error(made, config: TrainConfig) -> None:
    config = replace(config, fluxflow=FluxFlowConfig(ratio=0.5))
    for batch in take(loader_of(made, config, made.dataset.layer("variational")), 8):
        if batch.flow is None:
            continue
        for index, sample in enumerate(batch.flow.rows.tolist()):
            row = made.dataset.clips["key"].to_pylist().index(batch.keys[sample])
            frames = batch.plans[sample].src_index[batch.flow.slots[index]]
            for n, pair in enumerate(frames.tolist()):
                true = made.fields[row][tuple(pair)]
                error = (batch.flow.flow[index, n] - true.flow[0]).abs().max().item()
                assert error <= made.spec.max_error_px
                assert torch.equal(batch.flow.visible[index, n], true.visible[0])


@pytest.mark.parametrize("prefetch", [1, 3])
@pytest.mark.parametrize("threads", [1, 4])
def test_the_stream_does_not_depend_on_threads(
    made, config: TrainConfig, threads: int, prefetch: int
) -> None:
    layer = made.dataset.layer("variational")
    other = replace(config, stream=replace(config.stream, threads=threads, prefetch=prefetch))
    reference, batches = (take(loader_of(made, c, layer), 6) for c in (config, other))
    assert all(same(a, b) for a, b in zip(reference, batches, strict=True))


def test_ranks_share_the_same_global_batches(made, config: TrainConfig) -> None:
    config = replace(config, stream=replace(config.stream, batch=4))
    whole = take(loader_of(made, config), 5)
    halves = [take(loader_of(made, config, rank=r, ranks=2), 5) for r in (0, 1)]
    for batch, *shares in zip(whole, *halves, strict=True):
        for rank, share in enumerate(shares):
            assert share.keys == batch.keys[rank::2]
            assert share.positions == batch.positions[rank::2]
            assert torch.equal(share.frames, batch.frames[rank::2])
            assert torch.equal(share.levels, batch.levels[rank::2])
            assert (share.cursor, share.stage) == (batch.cursor, batch.stage)


def test_any_batch_can_be_resumed_from(made, config: TrainConfig) -> None:
    layer = made.dataset.layer("variational")
    batches = take(loader_of(made, config, layer), 8)  # 16 of 6 clips: over epochs
    for done in range(7):
        rest = take(loader_of(made, config, layer, batches[done].cursor), 7 - done)
        assert all(same(a, b) for a, b in zip(batches[done + 1 :], rest, strict=True))


def test_every_clip_is_seen_once_an_epoch(made, config: TrainConfig) -> None:
    keys = [key for batch in take(loader_of(made, config), 6) for key in batch.keys]
    everything = sorted(made.dataset.clips["key"].to_pylist())
    assert sorted(keys[:6]) == sorted(keys[6:]) == everything


def test_no_flow_is_read_where_none_is_wanted(made, config: TrainConfig) -> None:
    assert all(batch.flow is None for batch in take(loader_of(made, config), 6))
    shut = replace(config, flow_loss=FlowLossConfig(psi=0.0))
    layer = made.dataset.layer("variational")
    assert all(batch.flow is None for batch in take(loader_of(made, shut, layer), 6))


def test_each_batch_says_where_its_time_went(made, config: TrainConfig) -> None:
    batches = take(loader_of(made, config, made.dataset.layer("variational")), 10)
    for batch in batches:
        kinds = {"plan", "read", "decode", "stall"} | ({"flow"} if batch.flow else set())
        assert set(batch.seconds) == kinds
        assert all(seconds >= 0 for seconds in batch.seconds.values())


def test_what_the_data_cannot_serve_is_refused(made, config: TrainConfig) -> None:
    with pytest.raises(UsageError, match=r"shortest clip .* 9 frames, stream.frames asks for 12"):
        loader_of(made, replace(config, stream=StreamConfig(frames=12)))
    with pytest.raises(ValueError, match=r"batch of 2 clips .* 3 ranks"):
        loader_of(made, config, rank=0, ranks=3)
    with pytest.raises(ValueError, match="cannot resume"):
        loader_of(made, config, cursor=Cursor(dataset="another", seed=config.seed))


def test_damage_is_reported_by_name(made, config: TrainConfig, monkeypatch) -> None:
    loader = loader_of(made, config)
    read = loader.reader.member

    def damaged(row: int, name: str) -> bytes:
        if row == 3:
            raise DamagedDataset("clip-3 (mp4) differs from what was written")
        return read(row, name)

    monkeypatch.setattr(loader.reader, "member", damaged)
    with pytest.raises(DamagedDataset, match="clip-3"):
        take(loader, 3)


class Still:
    """Somebody else's recipe: every clip from its start at half rate, no noise levels, no flow."""

    def __init__(self, levels_of: tuple[int, ...] = ()) -> None:
        self.levels_of = levels_of

    def group(self, batch_number: int) -> Stage:
        return stages(TrainConfig().pyramid)[1]

    def sample(self, position: int, clip: ClipFacts, group: Stage) -> SamplePlan:
        shown = subsample(window(0, clip.frames), group.stride, group.number)
        levels = np.ones(len(shown), np.float32) if position in self.levels_of else None
        return SamplePlan(shown=shown, levels=levels, supervision=None)


def test_another_recipe_is_another_training_with_the_same_stream(made, config: TrainConfig) -> None:
    layer = made.dataset.layer("variational")
    theirs = take(Loader(made.dataset, config.stream, Still(), layer, seed=config.seed), 4)
    for batch, ours in zip(theirs, take(loader_of(made, config, layer), 4), strict=True):
        assert (batch.keys, batch.cursor) == (ours.keys, ours.cursor)
        assert (batch.levels, batch.flow) == (None, None)
        assert batch.frames.shape == (2, 5, 3, 48, 64)
        assert batch.time.tolist() == [0, 2, 4, 6, 8]
        assert batch.to(torch.device("cpu")).levels is None


def test_a_recipe_draws_levels_for_all_samples_of_a_batch_or_for_none(made, config) -> None:
    with pytest.raises(ValueError, match="for all samples or none, not 1"):
        take(Loader(made.dataset, config.stream, Still(levels_of=(3,)), seed=0), 2)


def shards_of(made, keys: Iterable[str]) -> set[int]:
    rows = {key: row for row, key in enumerate(made.dataset.clips["key"].to_pylist())}
    shard_of = np.repeat(np.arange(3), made.dataset.shard_rows)
    return {int(shard_of[rows[key]]) for key in keys}


@pytest.fixture
def opened(made) -> Dataset:
    """The dataset, just opened, with a configuration as a build writes it."""
    dataset = Dataset(made.dataset.url)
    config = {"size": [48, 64], "frames": 9}
    dataset.manifest = replace(dataset.manifest, config=config)
    return dataset


def test_a_batch_reads_the_index_of_its_window_alone(
    made, opened: Dataset, config: TrainConfig, reads: list[str]
) -> None:
    config = replace(config, stream=replace(config.stream, window=1))
    layer, before = opened.layer(), [*reads]
    loader = Loader(opened, config.stream, TrainRecipe(config), layer, seed=config.seed)
    assert reads == before
    batch, _ = loader.prepare(loader.cursor)
    read = reads[len(before) :]
    shards = {int(name[-14:-8]) for name in read}
    assert shards == shards_of(made, batch.keys) != {0, 1, 2}
    assert len(read) == 2 * len(shards), "of clips and flow, once each"


def test_the_index_of_the_next_window_is_read_by_threads_ahead(
    opened: Dataset, config: TrainConfig, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(config, stream=replace(config.stream, window=1, prefetch=1))
    loader = Loader(opened, config.stream, TrainRecipe(config), seed=config.seed)
    readers: set[str] = set()
    index = opened.rows

    def rows(*arguments):
        readers.add(threading.current_thread().name)
        return index(*arguments)

    monkeypatch.setattr(opened, "rows", rows)
    first, _ = loader.order.window_at(0)
    reads.clear()
    keys = [key for batch in take(loader, 9) for key in batch.keys]
    assert len(keys) == 18
    assert len(reads) == len({*reads}) == 3, "each shard once, in three epochs"
    assert reads[0] == f"clips/{first[0]:06d}.parquet"
    assert any(name.startswith("loader") for name in readers)


def test_what_the_configuration_promises_is_checked_where_rows_are_read(
    opened: Dataset, config: TrainConfig
) -> None:
    for told, problem in (
        ({"size": [48, 64], "frames": 17}, r"stream\.frames asks for 12"),
        ({"size": [32, 64], "frames": 9}, r"heights \[32, 48\]"),
    ):
        opened.manifest = replace(opened.manifest, config=told)
        frames = 12 if told["frames"] == 17 else 8
        wanted = replace(config, stream=replace(config.stream, frames=frames))
        loader = Loader(opened, wanted.stream, TrainRecipe(wanted), seed=config.seed)
        with pytest.raises(UsageError, match=problem):
            take(loader, 1)
