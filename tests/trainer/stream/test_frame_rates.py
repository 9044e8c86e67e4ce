"""One motion, filmed at several rates and at none, is one motion at the model's frame rate."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from itertools import islice, pairwise

import numpy as np
import pytest
import torch

from flow_cache.field import FlowField
from flow_cache.spec import FlowSpec, level_pairs
from shards.index import Dataset
from shards.store import UsageError
from tests.trainer.conftest import SIZE, Times, small_spec, write_dataset
from tests.trainer.stream.conftest import Index
from trainer.config import FlowLossConfig, StreamConfig, TrainConfig
from trainer.stream.batch import Batch
from trainer.stream.engine import Stream
from trainer.stream.source import Source
from trainer.temporal.recipe import PlainRecipe, Recipe, TrainRecipe

SPEED, TICK = 60, Fraction(1, 600)  # pixels a second
NTSC = Fraction(24000, 1001)
UNEVEN = [0, 20, 70, 90, 140, 150, 190, 210, 250, 300, 310, 350, 400, 410]  # most in a second: 60
CLIPS = {
    "24": Times(pts=range(0, 13 * 25, 25), base=TICK, fps=Fraction(24)),
    "30": Times(pts=range(0, 13 * 20, 20), base=TICK, fps=Fraction(30)),
    "60": Times(pts=range(0, 25 * 10, 10), base=TICK, fps=Fraction(60)),
    "uneven": Times(pts=UNEVEN, base=TICK, fps=Fraction(20)),
    "ntsc": Times(pts=range(0, 17 * 1001, 1001), base=Fraction(1, 24000), fps=NTSC),
    "10": Times(pts=range(0, 9 * 60, 60), base=TICK, fps=Fraction(10)),
    "short": Times(pts=range(0, 90, 10), base=TICK, fps=Fraction(60)),
}


def seconds(times: Times) -> np.ndarray:
    return np.array([float(time * times.base) for time in times.pts])


def bar(moments: np.ndarray) -> np.ndarray:
    """A bright bar, 6 pixels wide, that has gone SPEED pixels a second from pixel 6 on."""
    left = 6 + SPEED * moments[:, None]
    columns = np.arange(SIZE[1])
    cover = np.clip(columns + 1 - left, 0, 1) * np.clip(left + 6 - columns, 0, 1)
    picture = (20 + 200 * cover).astype(np.uint8)
    return np.broadcast_to(picture[:, None, None], (len(moments), 3, *SIZE)).copy()


def fields(moments: np.ndarray, spec: FlowSpec) -> dict:
    """All of the picture moves as the bar does."""
    found = {}
    for first, second in level_pairs(len(moments), spec.levels, spec.directions):
        flow = torch.zeros(1, 2, *SIZE)
        flow[:, 0] = SPEED * float(moments[second] - moments[first])
        found[first, second] = FlowField(flow=flow, visible=torch.ones(1, *SIZE, dtype=torch.bool))
    return found


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    spec, moments = small_spec(), [seconds(times) for times in CLIPS.values()]
    return write_dataset(
        tmp_path_factory.mktemp("filmed") / "dataset",
        spec,
        [bar(one) for one in moments],
        [fields(one, spec) for one in moments],
        (3, 4),
        [*CLIPS.values()],
    )


def batches(dataset: Dataset, recipe: Recipe, count: int, **config) -> Iterator[Batch]:
    settings = StreamConfig(**{"frames": 5, "batch": 1, "threads": 1} | config)
    source = Source(dataset=dataset, layer=dataset.layer("variational"), where=settings.where)
    with closing(iter(Stream(source, settings, recipe, seed=0))) as stream:
        yield from islice(stream, count)


def middles(batch: Batch) -> np.ndarray:
    """Where the bar of a batch of one is in each slot, in pixels."""
    bright = (batch.frames[0].double().mean(dim=(1, 2)) - 20).clamp(min=8) - 8
    return ((bright * torch.arange(SIZE[1])).sum(1) / bright.sum(1)).numpy()


def test_one_motion_is_one_motion_at_any_rate(filmed: Dataset) -> None:
    names, met, starts = [*CLIPS], set(), set()
    for batch in batches(filmed, PlainRecipe(flow=True), 24, fps=12):
        name, shown = names[int(batch.keys[0].removeprefix("clip-"))], batch.plans[0].src_index
        met.add(name)
        starts.add((name, shown.item(0)))
        assert batch.fps == 12
        stamps = seconds(CLIPS[name])
        late = stamps[shown] - stamps[shown[0]] - np.arange(5) / 12
        assert np.abs(late).max() <= max(np.diff(stamps)) / 2 + 1e-9
        moved = np.diff(middles(batch))
        assert moved == pytest.approx(SPEED * np.diff(stamps[shown]), abs=0.35)
        if name in ("24", "60", "ntsc"):
            assert moved == pytest.approx(SPEED / 12, abs=0.35)
        assert batch.flow is not None
        assert (batch.flow.hops > 0).all(), "every pair is supervised"
        for pair, (first, second) in enumerate(pairwise(shown.tolist())):
            flow = batch.flow.flow[0, pair, 0][batch.flow.visible[0, pair]]
            expected = SPEED * (stamps[second] - stamps[first])
            assert len(flow) > 2000
            assert (flow - expected).abs().max() <= batch.flow.hops[0, pair] / 32 + 1e-4
    assert met == {"24", "30", "60", "uneven", "ntsc"}
    assert {("24", 0), ("24", 4), ("60", 0), ("60", 4)} <= starts


def test_what_is_left_out_is_counted_by_reason(filmed: Dataset) -> None:
    stream = Stream(filmed, StreamConfig(frames=5, fps=12), PlainRecipe(), seed=0)
    assert stream.places.dropped == {
        "too slow for 12 fps": 1,
        "too short for 5 frames at 12 fps": 1,
    }
    with pytest.raises(UsageError, match=r"fills 5 frames at 90 fps: 7 are too slow for 90 fps"):
        Stream(filmed, StreamConfig(frames=5, fps=90), PlainRecipe(), seed=0)


@pytest.mark.parametrize("windows", ["drawn", "all"])
@pytest.mark.parametrize("plain", [True, False])
def test_asked_for_the_rate_it_has_a_clip_is_as_without(
    filmed: Dataset, plain: bool, windows: str
) -> None:
    """To the last bit, and 24 is 23.976's."""
    config = TrainConfig(stream=StreamConfig(frames=8), flow_loss=FlowLossConfig(psi=1e9))
    recipe: Recipe = PlainRecipe(flow=True) if plain else TrainRecipe(config)
    options = {"frames": 8, "where": 'key == "clip-4"', "windows": windows}
    without, asked = ([*batches(filmed, recipe, 6, **options, fps=fps)] for fps in (None, 24.0))
    for one, other in zip(without, asked, strict=True):
        assert torch.equal(one.frames, other.frames)
        assert (one.positions, one.stage, one.fps) == (other.positions, other.stage, None)
        assert one.plans[0].src_index.tolist() == other.plans[0].src_index.tolist()
        assert one.flow is not None
        assert other.flow is not None
        assert torch.equal(one.flow.flow, other.flow.flow)
        assert torch.equal(one.flow.visible, other.flow.visible)


def test_a_stage_shows_every_so_many_slots(filmed: Dataset) -> None:
    full, half = ([*batches(filmed, PlainRecipe(stride=stride), 6, fps=12)] for stride in (1, 2))
    for one, other in zip(full, half, strict=True):
        assert torch.equal(one.frames[:, ::2], other.frames)
        assert one.time[::2].tolist() == other.time.tolist() == [0, 2, 4]


def test_a_state_of_another_frame_rate_is_refused() -> None:
    index = Index([4], frames=[9] * 4)
    config = StreamConfig(frames=4, fps=12, batch=1)
    state = Stream(index, config, PlainRecipe(), seed=0).state_dict()
    for fps, now in ((None, "unset"), (6.0, "6, for 4 frames")):
        other = Stream(index, replace(config, fps=fps), PlainRecipe(), seed=0)
        with pytest.raises(UsageError, match=f"fps was 12, for 4 frames, this run has {now}"):
            other.load_state_dict(state)


def test_a_recipe_that_wants_longer_windows_than_the_stream_is_told(filmed: Dataset) -> None:
    with pytest.raises(UsageError, match="no window of 16 frames: let those of the recipe"):
        [*batches(filmed, PlainRecipe(16), 1, fps=12)]
