import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from shards import UsageError
from trainer.codec.pixels import Pixels
from trainer.config import (
    ConditioningConfig,
    ProcessConfig,
    PyramidConfig,
    TrainConfig,
    ValidationConfig,
)
from trainer.model.text import Conditioner
from trainer.run.ranks import Ranks
from trainer.run.validation import Validation, fixed_levels, split
from trainer.stream.engine import Stream
from trainer.stream.filter.where import Where
from trainer.stream.source import Source
from trainer.temporal.recipe import PlainRecipe

ALONE = Ranks(device=torch.device("cpu"))
SILENT = Conditioner(ConditioningConfig())


@pytest.fixture
def kept(config: TrainConfig) -> TrainConfig:
    """A third of the clips, by their key: the little dataset has no source videos."""
    return replace(config, validation=ValidationConfig(share=0.4, by="key", clips=9, levels=4))


def judge_of(made, config: TrainConfig) -> Validation:
    _, kept = split(Source(dataset=made.dataset), config)
    return Validation(kept, config, ALONE, Pixels(), SILENT)


def keys(source: Source, config: TrainConfig) -> set[str]:
    stream = Stream(source, config.stream, PlainRecipe(8), seed=0)
    total = sum(one.order.total for one in stream.places.samples)
    return {stream[position].keys[0] for position in range(total)}


def test_clips_are_trained_on_or_judged_by_and_the_filter_says_so(made, kept) -> None:
    whole = Source(dataset=made.dataset)
    train, judge = split(whole, kept)
    ours, theirs = keys(train, kept), keys(judge, kept)
    assert ours
    assert theirs
    assert not ours & theirs
    assert ours | theirs == keys(whole, kept)
    more = replace(kept, validation=replace(kept.validation, share=0.6))
    assert theirs <= keys(split(whole, more)[1], kept), "a larger share keeps what was kept"
    stream = Stream(train, kept.stream, PlainRecipe(8), seed=0)
    assert "share(key) >= 0.4" in str(stream.order["where"])


def test_a_filter_holds_for_both_parts(made, kept) -> None:
    source = Source(dataset=made.dataset, where="frames > 100 or key == 'clip-1'")
    table = made.dataset.clips
    taken = [Where(part.where).places(table).tolist() for part in split(source, kept)]
    assert sorted(taken) == [[], [1]]


def test_clips_without_a_value_are_trained_on(made, kept) -> None:
    config = replace(kept, validation=replace(kept.validation, by="caption"))
    train, _ = split(Source(dataset=made.dataset, where="key != 'x'"), config)
    assert train.where.endswith("or caption is None)")


def test_without_a_share_all_is_trained_on(made, config: TrainConfig) -> None:
    source = Source(dataset=made.dataset)
    assert split(source, config)[0] is source


def test_levels_are_the_middles_of_equal_parts_of_the_law() -> None:
    config = TrainConfig(
        process=ProcessConfig(kind="flow", uniform=True), validation=ValidationConfig(levels=4)
    )
    config = replace(config, pyramid=PyramidConfig(enabled=False))
    ((stage, levels),) = fixed_levels(config).items()
    assert stage.stride == 1
    assert [level / (1 + level) for level in levels] == pytest.approx([1 / 8, 3 / 8, 5 / 8, 7 / 8])


def test_a_level_is_judged_at_the_stage_of_most_frames_that_trains_on_it() -> None:
    config = TrainConfig(validation=ValidationConfig(levels=50))
    found = fixed_levels(config)
    assert [stage.stride for stage in found] == [1, 2, 4]
    assert sum(map(len, found.values())) == 50
    for stage, levels in found.items():
        assert stage.interval.end <= min(levels)
        assert max(levels) <= stage.interval.start
    finest = next(iter(found))
    assert max(found[finest]) > 0.5, "in the overlap with the second stage"


def test_judging_again_gives_the_same(made, kept) -> None:
    config = replace(kept, pyramid=PyramidConfig(enabled=False))
    validation = judge_of(made, config)
    found = validation(lambda x, *_: torch.zeros_like(x))
    again = validation(lambda x, *_: torch.zeros_like(x))
    assert found == again
    assert len(found["val/by_level"]) == 4
    assert found["val/loss"] == pytest.approx(sum(found["val/by_level"].values()) / 4)
    assert found["val/loss"] > 0
    assert math.isfinite(found["val/loss"])


def test_each_clip_counts_once_whatever_the_batch(made, kept) -> None:
    """Five clips in batches of 1, 2 or 4: those that fill up the last batch do not count."""
    losses = []
    for batch in (1, 2, 4):
        config = replace(kept, stream=replace(kept.stream, batch=batch))
        config = replace(config, validation=replace(kept.validation, share=0.9))
        validation = judge_of(made, config)
        assert 1 < validation.clips < 6
        losses.append(validation(lambda x, *_: torch.zeros_like(x))["val/by_level"])
    for other in losses[1:]:
        assert other == pytest.approx(losses[0], rel=1e-5)


def test_another_seed_is_judged_on_the_same(made, kept) -> None:
    found = []
    for seed in (0, 1):
        config = replace(kept, seed=seed)
        validation = judge_of(made, config)
        found.append(validation(lambda x, *_: torch.zeros_like(x)))
    assert found[0] == found[1]


def test_nothing_to_judge_is_refused(made, kept, tmp_path: Path) -> None:
    config = replace(kept, validation=replace(kept.validation, share=1e-9))
    with pytest.raises(UsageError, match=r"share 1e-09 keeps .*leaves no clip.*keep a larger"):
        judge_of(made, config)
