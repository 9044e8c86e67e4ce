import errno
import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from flow_cache.coding.header import DamagedField
from shards.clip_video import DamagedClip, decode_clip
from shards.index import Dataset
from shards.manifest import DamagedDataset, Layer
from shards.order import Cursor
from shards.reader import ShardReader
from shards.stopwatch import Stopwatch
from shards.storage.failures import Exhausted
from shards.store import UsageError
from tests.trainer.stream.conftest import Index, OpenStream, Shown, shown_by
from trainer.config import FlowLossConfig, FluxFlowConfig, StreamConfig, TrainConfig
from trainer.stream import engine, helper
from trainer.stream.batch import Batch
from trainer.stream.engine import Stream
from trainer.stream.filter.where import Where
from trainer.stream.source import Source
from trainer.temporal.plan import subsample, window
from trainer.temporal.recipe import ClipFacts, SamplePlan, TrainRecipe
from trainer.temporal.stages import Stage, stages


def stream_of(made, config: TrainConfig, layer: Layer | None = None, *rest, **options) -> Stream:
    """The stream of a training run."""
    source = Source(dataset=made.dataset, layer=layer, where=config.stream.where)
    return Stream(source, config.stream, TrainRecipe(config), *rest, seed=config.seed, **options)


def take(stream: Stream, count: int) -> list[Batch]:
    batches = iter(stream)
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
    for batch in take(stream_of(made, config, layer), 20):
        stages.add(batch.stage.number)
        slots = 8 // batch.stage.stride
        assert batch.frames.shape == (2, slots, 3, 48, 64)
        assert batch.time.tolist() == [batch.stage.stride * i for i in range(slots)]
        low, high = batch.stage.interval.end, batch.stage.interval.start
        assert batch.levels is not None
        assert batch.levels.shape == (2, slots)
        assert ((batch.levels > low) & (batch.levels <= high)).all()
        for index, (key, plan) in enumerate(zip(batch.keys, batch.plans, strict=True)):
            video = ShardReader(made.dataset).member(rows[key], "mp4")
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
    for batch in take(stream_of(made, config, made.dataset.layer("variational")), 8):
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


def test_what_is_kept_of_a_batch_stays_as_it_was(made, config: TrainConfig) -> None:
    """Batches lie in memory that is used again, once nobody holds any of it."""
    layer = made.dataset.layer("variational")
    kept, reference = [], []
    with closing(iter(stream_of(made, config, layer))) as batches:
        for batch in itertools.islice(batches, 12):
            seen = [batch.frames] if batch.flow is None else [batch.frames, batch.flow.flow]
            kept += [tensor[-1:, 0, 0] for tensor in seen]
            reference += [part.clone() for part in kept[-len(seen) :]]
    assert all(map(torch.equal, kept, reference))


@pytest.mark.parametrize("prefetch", [1, 3])
@pytest.mark.parametrize("threads", [1, 4])
def test_the_stream_does_not_depend_on_threads(
    made, config: TrainConfig, threads: int, prefetch: int
) -> None:
    layer = made.dataset.layer("variational")
    other = replace(config, stream=replace(config.stream, threads=threads, prefetch=prefetch))
    reference, batches = (take(stream_of(made, c, layer), 6) for c in (config, other))
    assert all(same(a, b) for a, b in zip(reference, batches, strict=True))


def test_ranks_share_the_same_global_batches(made, config: TrainConfig) -> None:
    config = replace(config, stream=replace(config.stream, batch=4))
    whole = take(stream_of(made, config), 5)
    halves = [take(stream_of(made, config, rank=r, ranks=2), 5) for r in (0, 1)]
    for batch, *shares in zip(whole, *halves, strict=True):
        for rank, share in enumerate(shares):
            assert share.keys == batch.keys[rank::2]
            assert share.positions == batch.positions[rank::2]
            assert torch.equal(share.frames, batch.frames[rank::2])
            assert torch.equal(share.levels, batch.levels[rank::2])
            assert (share.cursor, share.stage) == (batch.cursor, batch.stage)


def test_any_batch_can_be_resumed_from(made, config: TrainConfig) -> None:
    layer = made.dataset.layer("variational")
    batches = take(stream_of(made, config, layer), 8)  # 16 of 6 clips: over epochs
    for done in range(7):
        rest = take(stream_of(made, config, layer, batches[done].cursor), 7 - done)
        assert all(same(a, b) for a, b in zip(batches[done + 1 :], rest, strict=True))


def test_every_clip_is_seen_once_an_epoch(made, config: TrainConfig) -> None:
    keys = [key for batch in take(stream_of(made, config), 6) for key in batch.keys]
    everything = sorted(made.dataset.clips["key"].to_pylist())
    assert sorted(keys[:6]) == sorted(keys[6:]) == everything


def test_no_flow_is_read_where_none_is_wanted(made, config: TrainConfig) -> None:
    assert all(batch.flow is None for batch in take(stream_of(made, config), 6))
    shut = replace(config, flow_loss=FlowLossConfig(psi=1e-9, weight=0.0))
    layer = made.dataset.layer("variational")
    assert all(batch.flow is None for batch in take(stream_of(made, shut, layer), 6))


def test_each_batch_says_where_its_time_went(made, config: TrainConfig) -> None:
    batches = take(stream_of(made, config, made.dataset.layer("variational")), 10)
    for batch in batches:
        kinds = {"plan", "read", "decode", "stall", "transfer"} | (
            {"flow"} if batch.flow else set()
        )
        assert set(batch.seconds) == kinds
        assert all(seconds >= 0 for seconds in batch.seconds.values())


def test_a_batch_of_another_size_has_one_stage_on_all_ranks(made, config: TrainConfig) -> None:
    """Also where a run goes on in the middle of what is a batch now."""
    stages = set()
    for done in range(2, 20, 2):
        cursor = replace(stream_of(made, config).cursor, position=done)
        wide = replace(config, stream=replace(config.stream, batch=6))
        ranks = [stream_of(made, wide, None, cursor, rank=r, ranks=6) for r in range(6)]
        batches = [rank.prepare(done)[0] for rank in ranks]
        assert len({batch.stage for batch in batches}) == 1
        assert {batch.cursor.position for batch in batches} == {done + 6}
        stages.add(batches[0].stage)
    assert len(stages) > 1


def test_what_the_data_cannot_serve_is_refused(made, config: TrainConfig) -> None:
    with pytest.raises(UsageError, match=r"shortest clip .* 9 frames, stream.frames asks for 12"):
        stream_of(made, replace(config, stream=StreamConfig(frames=12)))
    with pytest.raises(ValueError, match=r"batch of 2 clips .* 3 ranks"):
        stream_of(made, config, rank=0, ranks=3)
    with pytest.raises(ValueError, match="cannot resume"):
        stream_of(made, config, cursor=Cursor(order={"dataset": "another"}))


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
    theirs = take(
        Stream(Source(dataset=made.dataset, layer=layer), config.stream, Still(), seed=config.seed),
        4,
    )
    for batch, ours in zip(theirs, take(stream_of(made, config, layer), 4), strict=True):
        assert (batch.keys, batch.cursor) == (ours.keys, ours.cursor)
        assert (batch.levels, batch.flow) == (None, None)
        assert batch.frames.shape == (2, 5, 3, 48, 64)
        assert batch.time.tolist() == [0, 2, 4, 6, 8]
        assert batch.to(torch.device("cpu")).levels is None


def test_a_recipe_draws_levels_for_all_samples_of_a_batch_or_for_none(made, config) -> None:
    with pytest.raises(ValueError, match="for all samples or none, not 1"):
        take(Stream(made.dataset, config.stream, Still(levels_of=(3,)), seed=0), 2)


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
    source = Source(dataset=opened, layer=layer)
    stream = Stream(source, config.stream, TrainRecipe(config), seed=config.seed)
    assert reads == before
    batch, _ = stream.prepare(0)
    read = reads[len(before) :]
    shards = {int(name[-14:-8]) for name in read}
    assert shards == shards_of(made, batch.keys) != {0, 1, 2}
    assert len(read) == 2 * len(shards), "of clips and flow, once each"


def test_the_index_of_the_next_window_is_read_by_threads_ahead(
    opened: Dataset, config: TrainConfig, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(config, stream=replace(config.stream, window=1, prefetch=1))
    stream = Stream(opened, config.stream, TrainRecipe(config), seed=config.seed)
    readers: set[str] = set()
    index = opened.rows

    def rows(*arguments):
        readers.add(threading.current_thread().name)
        return index(*arguments)

    monkeypatch.setattr(opened, "rows", rows)
    first, _ = stream.places.samples[0].order.window_at(0)
    reads.clear()
    keys = [key for batch in take(stream, 9) for key in batch.keys]
    assert len(keys) == 18
    assert len(reads) == len({*reads}) == 3, "each shard once, in three epochs"
    assert reads[0] == f"clips/{first[0]:06d}.parquet"
    assert any(name.startswith("stream") for name in readers)


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
        stream = Stream(opened, wanted.stream, TrainRecipe(wanted), seed=config.seed)
        with pytest.raises(UsageError, match=problem):
            take(stream, 1)


WORLDS = (1, 2, 3, 4, 6)
indices = st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(lambda rows: sum(rows) > 3)
once = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def damaged_index(data: st.DataObject) -> tuple[Index, dict]:
    """An index of which some rows are damaged, and a way to stream it."""
    rows = data.draw(indices)
    total = sum(rows)
    lengths = st.lists(st.sampled_from([4, 8, 9]), min_size=total, max_size=total)
    rates = st.lists(st.sampled_from([12, 24]), min_size=total, max_size=total)
    index = Index(rows, frames=data.draw(lengths), rates=data.draw(rates))
    fps = data.draw(st.sampled_from([None, 12.0]))
    where = data.draw(st.sampled_from(["", "number != 2", "number >= 2 or number == 0"]))
    index.damaged = {*data.draw(st.sets(st.integers(0, total - 1), max_size=3))}
    window = data.draw(st.integers(1, 3))
    buckets = data.draw(st.sampled_from([(), ("2x2x4", "1x2@8"), ("2x2x9", "2x2x8", "2x1x4")]))
    seed = data.draw(st.integers(0, 99))
    options = {"window": window, "seed": seed, "where": where, "buckets": buckets, "fps": fps}
    assume(keys_taken(index, options))
    return index, options


def keys_taken(index: Index, options: dict) -> list[str]:
    """Of the clips that a filter takes and that have four frames at the rate that is asked for."""
    taken = index.table.take(Where(options["where"]).places(index.table)).to_pylist()
    return [
        row["key"]
        for row in taken
        if not options["fps"] or row["frames"] > 3 * row["fps_num"] // options["fps"]
    ]


def told(open_stream: OpenStream, index: Index, batches: int, **options) -> list[Shown]:
    """What a stream gives; examples where all of a window is damaged are left out."""
    try:
        return shown_by(open_stream(index, **options), batches)
    except DamagedDataset:
        assume(False)
        raise


@once
@given(st.data())
def test_the_ranks_of_any_world_share_one_sequence(open_stream, data: st.DataObject) -> None:
    index, options = damaged_index(data)
    whole = told(open_stream, index, 3, batch=12, **options)
    ranks = data.draw(st.sampled_from(WORLDS))
    parts = [
        shown_by(open_stream(index, batch=12, rank=rank, ranks=ranks, **options), 3)
        for rank in range(ranks)
    ]
    joined = [sample for part in parts for sample in part]
    assert sorted(joined, key=lambda sample: sample.position) == whole


@settings(once, max_examples=6)
@given(st.data())
def test_any_state_gives_the_same_tail_to_any_world(open_stream, data: st.DataObject) -> None:
    index, options = damaged_index(data)
    whole = told(open_stream, index, 4, batch=12, **options)
    first = open_stream(index, batch=12, **options)
    states, generator = [first.state_dict()], iter(first)
    for _ in range(3):
        next(generator)
        states.append(json.loads(json.dumps(first.state_dict())))
    generator.close()
    ranks = data.draw(st.sampled_from(WORLDS))
    for done, state in enumerate(states):
        tail: list[Shown] = []
        for rank in range(ranks):
            stream = open_stream(index, batch=12, rank=rank, ranks=ranks, **options)
            stream.load_state_dict(state)
            tail += shown_by(stream, 4 - done)
        assert sorted(tail, key=lambda sample: sample.position) == whole[12 * done :]


@once
@given(st.data())
def test_only_damaged_clips_are_lost_and_only_their_places_repeat(
    open_stream, data: st.DataObject
) -> None:
    index, options = damaged_index(data)
    keys = keys_taken(index, options)
    found = told(open_stream, index, 2 * len(keys), batch=1, **options)
    bad = {f"clip-{row}" for row in index.damaged}
    for epoch in (found[: len(keys)], found[len(keys) :]):
        assert sorted(s.key for s in epoch if not s.stands_in) == sorted({*keys} - bad)
        assert {s.key for s in epoch} == {*keys} - bad


def test_a_batch_is_of_one_bucket_and_each_bucket_has_its_own_epochs(open_stream) -> None:
    index = Index([9, 7, 8], frames=[4, 9, 9, 5] * 6)
    buckets = {"buckets": ("2x2x9", "2x2x4"), "window": 1}
    found = shown_by(open_stream(index, batch=4, **buckets), 18)  # three epochs of 12 + 12 clips
    batches = [found[n : n + 4] for n in range(0, 72, 4)]
    lengths = [{sample.shape[0] for sample in batch} for batch in batches]
    assert all(len(those) == 1 for those in lengths)
    assert Counter(map(min, lengths)) == {9: 9, 4: 9}
    for length, of in ((9, {1, 2}), (4, {0, 3})):
        keys = [sample.key for sample in found if sample.shape[0] == length]
        epochs = [keys[n : n + 12] for n in range(0, 36, 12)]
        everything = sorted(f"clip-{row}" for row in range(24) if row % 4 in of)
        assert [sorted(epoch) for epoch in epochs] == [everything] * 3
        assert epochs[0] != epochs[1]
    one = open_stream(index, batch=4, **buckets)[9]
    assert (one.keys[0], one.frames.shape[1]) == (found[9].key, found[9].shape[0])
    state = open_stream(index, batch=4, **buckets).state_dict()
    for changed in ({"batch": 8}, {"buckets": ("2x2x9", "2x2x5")}, {"fill": "all"}):
        with pytest.raises(UsageError, match=r"cannot resume: (batch|buckets) was"):
            open_stream(index, **{"batch": 4, **buckets, **changed}).load_state_dict(state)


def test_damage_is_recorded_once_a_clip_and_counted(open_stream) -> None:
    index = Index([6, 6])
    index.damaged = {3, 7}
    stream = open_stream(index, batch=2)
    batches = list(itertools.islice(stream, 18))  # three epochs
    met = [damage for batch in batches for damage in batch.damaged]
    assert Counter(damage.key for damage in met) == {"clip-3": 3, "clip-7": 3}
    assert all(f"{damage.key} (mp4) differs" in damage.reason for damage in met)
    assert stream.cursor.skips == 2
    assert sorted(stream.cursor.skipped) == sorted(damage.position for damage in met[:2])
    assert stream.totals.facts()["damaged"] == 6
    again = open_stream(index, batch=2)
    again.load_state_dict(stream.state_dict())
    take(again, 6)
    assert again.cursor.skips == 2, "they were known"


def test_a_run_ends_where_more_is_damaged_than_allowed(open_stream) -> None:
    index = Index([8, 8])
    index.damaged = {1, 2, 9}
    assert len(take(open_stream(index, batch=4, max_damaged=3), 8)) == 8
    with pytest.raises(DamagedDataset, match=r"3 samples are damaged, .*max_damaged = 2.*clip-\d"):
        take(open_stream(index, batch=4, max_damaged=2), 8)
    index.damaged = {*range(16)}
    with pytest.raises(DamagedDataset, match=r"every clip of memory is damaged, as clip-\d+: "):
        take(open_stream(index, batch=4), 1)


def test_a_shard_without_index_loses_its_samples_alone(open_stream) -> None:
    index = Index([3, 5])
    stream = open_stream(index, batch=8, window=2)
    whole = shown_by(stream, 1)
    broken = Index([3, 5])
    stream = open_stream(broken, batch=8, window=2)
    broken.damaged = {"000000"}
    left = shown_by(stream, 1)
    lost = {"clip-0", "clip-1", "clip-2"}
    assert [s.stands_in for s in left] == [s.key in lost for s in whole]
    assert [s.key for s in left if not s.stands_in] == [s.key for s in whole if s.key not in lost]
    assert {*(s.key for s in left)} == {f"clip-{row}" for row in range(3, 8)}


def test_a_fault_that_passes_is_met_anew(open_stream, monkeypatch: pytest.MonkeyPatch) -> None:
    index, failures = Index([4]), iter([OSError("the server answers 500")])

    def fill(request, reader):
        for error in failures:
            raise error
        return Stopwatch()

    stream = open_stream(index, batch=4)
    monkeypatch.setattr(engine, "fill", fill)
    first, second = take(stream, 2)
    (damage,) = first.damaged
    assert "answers 500" in damage.reason
    assert sorted(second.keys) == [f"clip-{row}" for row in range(4)]


@pytest.mark.parametrize("error", [DamagedClip, DamagedField])
def test_bytes_that_no_codec_reads_are_damage(
    open_stream, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fill(request, reader):
        if request.row == 2:
            raise error("no such bytes")
        return Stopwatch()

    stream = open_stream(Index([4]), batch=4)
    monkeypatch.setattr(engine, "fill", fill)
    (batch,) = take(stream, 1)
    (damage,) = batch.damaged
    assert (damage.key, damage.reason) == ("clip-2", "no such bytes")


@pytest.mark.parametrize("error", [KeyError, ValueError, UsageError, UnicodeError])
def test_faults_of_ours_are_no_damage(
    open_stream, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fill(request, reader):
        raise error("a pair")

    stream = open_stream(Index([4]), batch=4)
    monkeypatch.setattr(engine, "fill", fill)
    with pytest.raises(error, match="a pair"):
        take(stream, 1)


def test_a_machine_without_files_ends_the_run_and_damages_no_clip(
    open_stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(*_) -> None:
        raise Exhausted(errno.EMFILE, "as many files open as it may")

    for part, name in ((engine, "fill"), (Index, "rows")):
        stream = open_stream(Index([4]), batch=4)
        with monkeypatch.context() as patch:
            patch.setattr(part, name, no_more)
            with pytest.raises(Exhausted, match="as many files"):
                take(stream, 1)
        assert stream.cursor.skips == 0


def test_sources_are_mixed_by_weight_each_in_its_own_epochs(open_stream) -> None:
    sources = [
        Source(dataset=Index([5, 4], name="a"), weight=2),
        Source(dataset=Index([4], name="b"), where="number > 0", weight=1),
    ]
    found = shown_by(open_stream(sources, batch=3, window=1), 9)
    names = [shown.key[0] for shown in found]
    assert all(names[n : n + 3].count("a") == 2 for n in range(0, 27, 3))
    for name, total in (("a", 9), ("b", 3)):
        keys = [shown.key for shown in found if shown.key[0] == name]
        epochs = [keys[n : n + total] for n in range(0, len(keys), total)]
        assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
        assert len(epochs) > 1
    stream = open_stream(sources, batch=3, window=1)
    take(stream, 4)
    again = open_stream(sources, batch=3, window=1, rank=1, ranks=3)
    again.load_state_dict(stream.state_dict())
    assert shown_by(again, 5) == found[13::3]
    with pytest.raises(UsageError, match=r"where 2 was number > 0, this run has number > 1"):
        open_stream(
            [sources[0], replace(sources[1], where="number > 1")], batch=3, window=1
        ).load_state_dict(stream.state_dict())


def test_all_windows_of_long_clips_are_samples_of_their_own(open_stream) -> None:
    index = Index([2, 2], frames=[4, 8, 11, 12])
    stream = open_stream(index, batch=8, windows="all")
    epoch = sorted((shown.key, shown.start) for shown in shown_by(stream, 1))
    assert epoch == [
        (f"clip-{n}", s)
        for n, s in [(0, 0), (1, 0), (1, 4), (2, 0), (2, 4), (3, 0), (3, 4), (3, 8)]
    ]
    with pytest.raises(UsageError, match="windows was all of 4 frames, this run has unset"):
        open_stream(index, batch=8).load_state_dict(stream.state_dict())


def test_a_state_is_small_plain_json_whatever_it_holds(open_stream) -> None:
    index = Index([80, 120])
    index.damaged = {*range(0, 190, 2)}
    stream = open_stream(index, batch=20, where=" or ".join(f"number != {n}" for n in range(30)))
    take(stream, 10)
    state = stream.state_dict()
    assert len(json.dumps(state)) < 2000
    assert state["skips"] == 95
    far = replace(stream.cursor, position=10**13, skipped=tuple(range(10**13 - 64, 10**13)))
    assert len(json.dumps(far.to_json())) < 2000
    many = [Source(dataset=Index([3], name=f"{n}"), where=f"number < {n}") for n in range(1, 40)]
    state = open_stream(many, batch=1).state_dict()
    assert len(json.dumps(state)) < 2000


def test_it_goes_on_where_it_stood(open_stream) -> None:
    stream = open_stream(Index([7, 5]), batch=3)
    whole = shown_by(open_stream(Index([7, 5]), batch=3), 6)
    assert shown_by(stream, 2) + shown_by(stream, 4) == whole


def test_a_data_loader_takes_it_as_it_is_in_this_process_or_another(made, config) -> None:
    reference = take(stream_of(made, config), 3)
    for workers in (0, 1):
        stream = stream_of(made, config)
        loader = DataLoader(stream, batch_size=None, num_workers=workers)
        for ours, theirs in zip(reference, loader, strict=False):
            assert torch.equal(ours.frames, theirs.frames)
            assert (ours.keys, ours.cursor) == (theirs.keys, theirs.cursor)


def test_several_workers_are_refused(open_stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper, "get_worker_info", lambda: SimpleNamespace(num_workers=2))
    with pytest.raises(UsageError, match="2 workers would give each batch as often"):
        next(iter(open_stream(Index([9]))))


def test_one_sample_can_be_looked_at(made, config: TrainConfig) -> None:
    layer = made.dataset.layer("variational")
    stream = stream_of(made, config, layer)
    for batch in take(stream_of(made, config, layer), 2):
        for place, position in enumerate(batch.positions):
            one = stream[position]
            assert one.keys == (batch.keys[place],)
            assert torch.equal(one.frames[0], batch.frames[place])
            assert one.plans[0].src_index.tolist() == batch.plans[place].src_index.tolist()
    with pytest.raises(IndexError, match="position -1"):
        stream[-1]


def test_what_is_ahead_is_bounded_in_bytes(open_stream, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    start = Stream._start

    def counting(self, pool, position, windows):
        started.append(position)
        return start(self, pool, position, windows)

    monkeypatch.setattr(Stream, "_start", counting)
    batches = iter(open_stream(Index([9]), batch=3, prefetch=5))
    next(batches)
    assert len(started) == 6
    batches.close()
    started.clear()
    batches = iter(open_stream(Index([9]), batch=3, prefetch=5, prefetch_mib=0))
    next(batches)
    assert len(started) == 1
    batches.close()


def test_no_thread_is_left(open_stream) -> None:
    before = threading.active_count()
    for end in ("close", "throw"):
        batches = iter(open_stream(Index([9]), batch=3, threads=4))
        next(batches)
        assert threading.active_count() > before
        if end == "close":
            batches.close()
        else:
            with pytest.raises(KeyboardInterrupt):
                batches.throw(KeyboardInterrupt())
        assert threading.active_count() == before


def footprint() -> tuple[int, int, float]:
    """Threads, open files, and MiB of this process."""
    process = psutil.Process()
    return process.num_threads(), process.num_fds(), process.memory_info().rss / 2**20


def check_footprint(stream: Stream, batches: int) -> None:
    """Nothing grows over so many batches, once a tenth of them have been taken."""
    generator = iter(stream)
    for _ in itertools.islice(generator, batches // 10):
        pass
    threads, files, memory = footprint()
    for _ in itertools.islice(generator, batches):
        pass
    after = footprint()
    generator.close()
    assert after[0] <= threads  # one of pytest may have ended
    assert after[1] == files
    assert after[2] < memory + 8


def test_nothing_grows_from_batch_to_batch(open_stream) -> None:
    index = Index([3] * 40)
    index.damaged = {5, 50, 100}
    check_footprint(open_stream(index, batch=1, window=4), 600)


@pytest.mark.drill
@pytest.mark.timeout(3600)
def test_nothing_grows_over_a_hundred_thousand_batches(open_stream) -> None:
    index = Index([3] * 40)
    index.damaged = {5, 50, 100}
    check_footprint(open_stream(index, batch=1, window=4), 100_000)
