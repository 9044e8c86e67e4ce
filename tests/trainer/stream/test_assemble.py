"""A batch has the shapes that its plans need, and parts that write to its own memory."""

import pytest
import torch

from shards.order import Cursor
from trainer.config import StreamConfig, TrainConfig
from trainer.stream.assemble import assemble
from trainer.stream.batch import Damage
from trainer.stream.fill import fill
from trainer.stream.samples import Samples
from trainer.stream.source import Source
from trainer.temporal.recipe import TrainRecipe
from trainer.temporal.stages import stages

CONFIG = TrainConfig(stream=StreamConfig(frames=8))


def test_parts_fill_their_place_of_the_batch(made) -> None:
    layer = made.dataset.layer("variational")
    samples = Samples(Source(dataset=made.dataset, layer=layer), CONFIG.stream, seed=0)
    found = [samples.find(position, position, {}) for position in (3, 4)]
    first, cursor = stages(CONFIG.pyramid)[0], Cursor(order={}, position=5)
    batch, parts = assemble(found, TrainRecipe(CONFIG), first, cursor, torch.zeros)
    assert batch.frames.shape == (2, 8, 3, 48, 64)
    assert (batch.positions, batch.cursor, batch.damaged) == ((3, 4), cursor, ())
    assert batch.nbytes == batch.frames.numel() + (
        0 if batch.flow is None else 4 * batch.flow.flow.numel() + batch.flow.visible.numel()
    )
    assert not batch.frames.any()
    for place, part in enumerate(parts):
        assert {"read", "decode"} <= {*fill(part.request, samples.reader).seconds}
        assert batch.frames[place].any()
    assert batch.keys == tuple(samples.key(one.row) for one in found)


def test_a_batch_brings_the_columns_that_its_source_was_asked_for(made) -> None:
    source = Source(dataset=made.dataset, columns=("frames", "caption"))
    samples = Samples(source, CONFIG.stream, seed=0)
    found = [samples.find(position, position, {}) for position in (3, 4)]
    batch, _ = assemble(
        found, TrainRecipe(CONFIG), stages(CONFIG.pyramid)[0], Cursor(order={}), torch.zeros
    )
    assert batch.columns == {"frames": (9, 9), "caption": batch.captions}


def test_a_clip_that_stands_in_is_marked_with_its_position(made) -> None:
    samples = Samples(Source(dataset=made.dataset), CONFIG.stream, seed=0)
    own = samples.find(7, 1, {}).number
    found = [samples.find(7, 1, {own: Damage(key="clip-x", reason="gone")})]
    batch, _ = assemble(
        found, TrainRecipe(CONFIG), stages(CONFIG.pyramid)[0], Cursor(order={}), torch.zeros
    )
    assert batch.damaged == (Damage(key="clip-x", reason="gone", position=7),)


def test_levels_are_drawn_for_all_or_none(made) -> None:
    class Some(TrainRecipe):
        def sample(self, position, clip, group):
            plan = super().sample(position, clip, group)
            if position:
                object.__setattr__(plan, "levels", None)
            return plan

    samples = Samples(Source(dataset=made.dataset), CONFIG.stream, seed=0)
    found = [samples.find(position, position, {}) for position in (0, 1)]
    with pytest.raises(ValueError, match="for all samples or none, not 1"):
        assemble(found, Some(CONFIG), stages(CONFIG.pyramid)[0], Cursor(order={}))
