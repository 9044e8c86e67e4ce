"""A batch has the shapes that its plans need, and parts that write to its own memory."""

from dataclasses import replace

import pytest
import torch

from flow_cache import CODING
from shards.order import Cursor
from trainer.config import FlowLossConfig, StreamConfig, TrainConfig
from trainer.stream.assemble import assemble
from trainer.stream.batch import Damage
from trainer.stream.fill import FlowRequest, PackedRequest, fill
from trainer.stream.samples import Opened, Samples
from trainer.stream.source import Source
from trainer.temporal.recipe import TrainRecipe
from trainer.temporal.stages import stages

CONFIG = TrainConfig(stream=StreamConfig(frames=8))


def test_parts_fill_their_place_of_the_batch(made) -> None:
    layer = made.dataset.layer("variational")
    samples = Samples(Opened(Source(dataset=made.dataset, layer=layer), CONFIG.stream), seed=0)
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
    samples = Samples(Opened(source, CONFIG.stream), seed=0)
    found = [samples.find(position, position, {}) for position in (3, 4)]
    batch, _ = assemble(
        found, TrainRecipe(CONFIG), stages(CONFIG.pyramid)[0], Cursor(order={}), torch.zeros
    )
    assert batch.columns == {"frames": (9, 9), "caption": batch.captions}


def test_a_clip_that_stands_in_is_marked_with_its_position(made) -> None:
    samples = Samples(Opened(Source(dataset=made.dataset), CONFIG.stream), seed=0)
    own = samples.find(7, 1, {}).number
    found = [samples.find(7, 1, {own: Damage(key="clip-x", reason="gone")})]
    batch, _ = assemble(
        found, TrainRecipe(CONFIG), stages(CONFIG.pyramid)[0], Cursor(order={}), torch.zeros
    )
    assert batch.damaged == (Damage(key="clip-x", reason="gone", position=7),)


def test_a_batch_is_as_large_as_its_samples_are_shown(made) -> None:
    stream = StreamConfig(frames=8, size="40x32", crop="random", flip=0.5)
    config = TrainConfig(stream=stream, flow_loss=FlowLossConfig(psi=1e9))
    source = Source(dataset=made.dataset, layer=made.dataset.layer("variational"))
    samples, first = Samples(Opened(source, stream), seed=0), stages(config.pyramid)[0]
    found = [samples.find(position, position, {}) for position in (3, 4, 5)]
    batch, parts = assemble(found, TrainRecipe(config), first, Cursor(order={}), torch.zeros)
    assert batch.frames.shape == (3, 8, 3, 32, 40)
    assert batch.flow is not None
    assert batch.flow.flow.shape[2:] == (2, 32, 40)
    assert batch.flow.visible.shape[2:] == (32, 40)
    assert batch.spaces == tuple(one.facts.draw_space(0, one.position) for one in found)
    assert [part.request.space for part in parts] == [*batch.spaces]
    planes, _ = assemble(
        found, TrainRecipe(config), first, Cursor(order={}), torch.zeros, planes=True
    )
    assert planes.frames.shape == (3, 8, 48 * 64 * 3 // 2), "all is sent, and cut there"


@pytest.mark.parametrize(("coding", "packs"), [(CODING, True), (1, False)])
def test_fields_of_the_layout_that_devices_know_are_packed(
    made, monkeypatch: pytest.MonkeyPatch, coding: int, packs: bool
) -> None:
    config = replace(CONFIG, flow_loss=FlowLossConfig(psi=1e9))
    source = Source(dataset=made.dataset, layer=made.dataset.layer("variational"))
    samples, first = Samples(Opened(source, config.stream), seed=0), stages(config.pyramid)[0]
    monkeypatch.setattr(samples, "_spec", replace(made.spec, coding=coding))
    found = [samples.find(position, position, {}) for position in (3, 4)]
    batch, parts = assemble(
        found, TrainRecipe(config), first, Cursor(order={}), torch.zeros, packed=True
    )
    assert (batch.packed is not None, batch.flow is None) == (packs, packs)
    kinds = {type(part.request.flow) for part in parts}
    assert kinds == {PackedRequest if packs else FlowRequest}


def test_samples_of_a_batch_are_shown_at_one_size(made) -> None:
    stream = StreamConfig(frames=8, size="40x32")
    samples = [
        Samples(Opened(Source(dataset=made.dataset), config), seed=0)
        for config in (CONFIG.stream, stream)
    ]
    found = [one.find(position, position, {}) for position, one in enumerate(samples)]
    with pytest.raises(ValueError, match=r"height and width, not \[\(8, 32, 40\), \(8, 48, 64\)\]"):
        assemble(found, TrainRecipe(CONFIG), stages(CONFIG.pyramid)[0], Cursor(order={}))


def test_levels_are_drawn_for_all_or_none(made) -> None:
    class Some(TrainRecipe):
        def sample(self, position, clip, group):
            plan = super().sample(position, clip, group)
            if position:
                object.__setattr__(plan, "levels", None)
            return plan

    samples = Samples(Opened(Source(dataset=made.dataset), CONFIG.stream), seed=0)
    found = [samples.find(position, position, {}) for position in (0, 1)]
    with pytest.raises(ValueError, match="for all samples or none, not 1"):
        assemble(found, Some(CONFIG), stages(CONFIG.pyramid)[0], Cursor(order={}))
