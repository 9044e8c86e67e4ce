import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from shards.store import UsageError
from trainer.config import ModelConfig
from trainer.model.context import Context
from trainer.model.transformer import Attention, SpaceTimeTransformer, patches, pixels, waves

TINY = ModelConfig(dim=32, depth=1, heads=2, patch=4)


def awake(config: ModelConfig = TINY, **parts: int) -> Any:
    """A model whose zero-initialised layers are not zero."""
    torch.manual_seed(0)
    model = SpaceTimeTransformer(config, **parts)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def test_it_starts_as_zero() -> None:
    model = SpaceTimeTransformer(TINY)
    out = model(torch.randn(2, 4, 3, 8, 12), torch.zeros(2, 4), torch.arange(4.0))
    assert torch.equal(out, torch.zeros(2, 4, 3, 8, 12))


@pytest.mark.parametrize("shape", [(1, 1, 3, 4, 4), (2, 4, 3, 8, 12), (1, 7, 3, 16, 8)])
def test_any_length_and_size(shape: tuple[int, ...]) -> None:
    out = awake()(torch.randn(shape), torch.zeros(shape[:2]), torch.arange(float(shape[1])))
    assert out.shape == shape


def test_a_size_that_the_patch_does_not_divide_is_refused() -> None:
    with pytest.raises(UsageError, match=r"6x8 .* patch 4"):
        awake()(torch.zeros(1, 2, 3, 6, 8), torch.zeros(1, 2), torch.arange(2.0))


def test_patches_and_back() -> None:
    clip = torch.arange(2.0 * 3 * 3 * 8 * 12).view(2, 3, 3, 8, 12)
    tokens = patches(clip, 4)
    assert tokens.shape == (2, 3, 6, 48)
    assert torch.equal(tokens[0, 0, 1].view(4, 4, 3).permute(2, 0, 1), clip[0, 0, :, :4, 4:8])
    assert torch.equal(pixels(tokens, 4, rows=2), clip)


def test_slots_are_told_apart_by_their_time_not_their_number() -> None:
    model, clip = awake(), torch.randn(1, 4, 3, 8, 8)
    quarter_rate = torch.arange(4.0) * 4
    assert not torch.allclose(
        model(clip, torch.zeros(1, 4), quarter_rate),
        model(clip, torch.zeros(1, 4), torch.arange(4.0)),
    )
    order = [2, 0, 3, 1]  # slots are a set: only their times order them
    torch.testing.assert_close(
        model(clip[:, order], torch.zeros(1, 4), quarter_rate[order]),
        model(clip, torch.zeros(1, 4), quarter_rate)[:, order],
        atol=1e-5,
        rtol=1e-4,
    )


def test_samples_do_not_see_each_other_and_see_their_noise_level() -> None:
    model, clips, time = awake(), torch.randn(2, 2, 3, 8, 8), torch.arange(2.0)
    both = model(clips, torch.tensor([[10.0, 10.0], [-50.0, -50.0]]), time)
    alone = model(clips[1:], torch.tensor([[-50.0, -50.0]]), time)
    torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(alone, model(clips[1:], torch.tensor([[10.0, 10.0]]), time))


def test_each_slot_has_its_own_noise_level() -> None:
    """Of two slots that show the same at the same time, only the levels can tell which is which."""
    model, frame = awake(), torch.randn(1, 1, 3, 8, 8)
    clip, time = frame.expand(-1, 2, -1, -1, -1), torch.zeros(2)
    one, other = model(clip, torch.tensor([[10.0, -50.0]]), time)[0]
    assert not torch.allclose(one, other, atol=1e-3)
    swapped = model(clip, torch.tensor([[-50.0, 10.0]]), time)[0]
    torch.testing.assert_close(swapped, torch.stack([other, one]), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(*model(clip, torch.tensor([[10.0, 10.0]]), time)[0])


def test_every_part_of_a_clip_reaches_every_other() -> None:
    model = awake(ModelConfig(dim=32, depth=2, heads=2, patch=4))
    clip = torch.randn(1, 3, 3, 8, 8, requires_grad=True)
    model(clip, torch.zeros(1, 3), torch.arange(3.0))[0, 2, 0, 7, 7].backward()
    assert clip.grad is not None
    assert (clip.grad[0].flatten(1).abs().amax(1) > 0).all()


def test_waves_are_distinct_and_bounded() -> None:
    table = waves(torch.arange(64.0), 32)
    assert table.shape == (64, 32)
    assert table.abs().max() <= 1
    assert torch.cdist(table, table).fill_diagonal_(1).min() > 0.1


def test_it_runs_in_bfloat16_as_on_a_gpu() -> None:
    model, clip = awake(), torch.randn(1, 2, 3, 8, 8)
    full = model(clip, torch.zeros(1, 2), torch.arange(2.0))
    with torch.autocast("cpu", torch.bfloat16):
        half = model(clip, torch.zeros(1, 2), torch.arange(2.0))
    # bfloat16 keeps 8 bits; a handful of layers lose a few of them.
    assert (full - half).abs().max() < 0.05 * full.abs().max()


def test_channels_are_those_of_the_codec() -> None:
    latents = torch.randn(2, 3, 16, 8, 8)
    out = awake(channels=16)(latents, torch.zeros(2, 3), torch.arange(3.0))
    assert out.shape == latents.shape


def test_parts_for_text_and_classes_leave_the_other_weights_as_they_are() -> None:
    """A run with captions starts where the same run without them does."""

    def fresh(**parts: int) -> dict[str, Tensor]:
        torch.manual_seed(0)
        config = replace(TINY, window=2, time_encoding=0.5, checkpointing=True)
        return SpaceTimeTransformer(config, **parts).state_dict()

    plain, told = fresh(), fresh(text=5, classes=3)
    assert all(torch.equal(value, told[name]) for name, value in plain.items())


def dense(attention: Attention, x: Tensor, window: int) -> Tensor:
    """softmax(q·k/√d)·v over the times of each place, |i - j| <= window, written out."""
    groups, slots, dim = x.shape
    out = torch.zeros_like(x)
    q, k, v = attention.qkv(x).view(groups, slots, 3, attention.heads, -1).unbind(2)
    q, k = (part / part.square().mean(-1, keepdim=True).sqrt() for part in (q, k))
    for i in range(slots):
        near = [j for j in range(slots) if abs(i - j) <= window]
        logits = (q[:, i, None] * k[:, near]).sum(-1) / math.sqrt(q.shape[-1])
        share = logits.exp() / logits.exp().sum(1, keepdim=True)
        out[:, i] = (share[..., None] * v[:, near]).sum(1).view(groups, dim)
    return attention.out(out)


@pytest.mark.parametrize("window", [1, 2, 5])
def test_windowed_attention_is_a_softmax_over_time(window: int) -> None:
    attention, x = awake().blocks[0].time, torch.randn(2, 3, 6, 32)
    slot = torch.arange(6)
    found = attention(x, (slot[:, None] - slot).abs() <= window)
    torch.testing.assert_close(found.flatten(0, 1), dense(attention, x.flatten(0, 1), window))


@pytest.mark.parametrize(("window", "reached"), [(0, 6), (1, 2), (2, 3), (5, 6), (9, 6)])
def test_a_slot_sees_no_further_than_the_window(window: int, reached: int) -> None:
    clip = torch.randn(1, 6, 3, 8, 8, requires_grad=True)
    out = awake(replace(TINY, window=window))(clip, torch.zeros(1, 6), torch.arange(6.0))
    out[0, 0].square().sum().backward()
    assert clip.grad is not None
    seen = clip.grad[0].flatten(1).abs().amax(1) > 0
    assert seen.tolist() == [slot < reached for slot in range(6)]


def test_a_window_over_all_slots_computes_what_none_does() -> None:
    clip, levels, time = torch.randn(1, 4, 3, 8, 8), torch.zeros(1, 4), torch.arange(4.0)
    plain = awake()(clip, levels, time)
    assert torch.equal(awake(replace(TINY, window=3))(clip, levels, time), plain)
    assert not torch.allclose(awake(replace(TINY, window=2))(clip, levels, time), plain)


def test_the_time_encoding_weighs_beside_that_of_place() -> None:
    clip, levels = torch.randn(1, 3, 3, 8, 8), torch.zeros(1, 3)
    times = torch.arange(3.0), torch.arange(3.0) * 4

    def change(weight: float) -> float:
        model = awake(replace(TINY, time_encoding=weight))
        one, other = (model(clip, levels, time) for time in times)
        return (one - other).square().mean().item()

    assert change(0.0) == 0
    assert 0 < change(0.3) < change(1.0)


def test_checkpointing_changes_no_value_and_no_gradient() -> None:
    clip, levels, time = torch.randn(2, 3, 3, 8, 8), torch.zeros(2, 3), torch.arange(3.0)
    context = Context(states=torch.randn(2, 4, 5), mask=torch.ones(2, 4).bool())
    found = []
    for checkpointing in (False, True):
        model = awake(replace(TINY, checkpointing=checkpointing), text=5)
        out = model(clip, levels, time, context)
        out.square().sum().backward()
        found.append([out, *(p.grad for p in model.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


@pytest.mark.filterwarnings("ignore")  # of the compiler's own looking
def test_a_block_is_one_graph_for_the_compiler() -> None:
    config = replace(TINY, window=1, checkpointing=True)
    context = Context(states=torch.randn(2, 4, 5), mask=torch.ones(2, 4).bool())
    given = torch.randn(2, 3, 3, 8, 8), torch.zeros(2, 3), torch.arange(3.0), context
    model = awake(config, text=5)
    plain = model(*given)
    for block in model.blocks:
        block.compile(backend="eager", fullgraph=True)  # else an error
    torch.testing.assert_close(model(*given), plain)


def told(states: Tensor, words: int) -> Any:
    mask = (torch.arange(states.shape[1]) < words).expand(states.shape[:2])
    return Context(states=states * mask[..., None], mask=mask)


def test_text_is_heard_and_what_is_masked_is_not() -> None:
    model, states = awake(text=5), torch.randn(1, 4, 5)
    given = torch.randn(1, 2, 3, 8, 8), torch.zeros(1, 2), torch.arange(2.0)
    heard = model(*given, told(states, 2))
    assert not torch.allclose(heard, model(*given, told(states, 4)), atol=1e-4)
    masked = told(states, 2)
    loud = Context(states=torch.where(masked.mask[..., None], states, 9.0), mask=masked.mask)
    torch.testing.assert_close(model(*given, loud), heard)


def test_an_empty_text_is_the_learned_none() -> None:
    model, states = awake(text=5), torch.randn(1, 4, 5)
    given = torch.randn(1, 2, 3, 8, 8), torch.zeros(1, 2), torch.arange(2.0)
    empty = model(*given, told(states, 0))
    torch.testing.assert_close(empty, model(*given))
    torch.testing.assert_close(empty, model(*given, Context(labels=None)))
    empty.square().sum().backward()
    assert model.text.none.grad.abs().sum() > 0


def test_text_starts_without_a_say_and_gets_a_gradient() -> None:
    torch.manual_seed(0)
    model: Any = SpaceTimeTransformer(TINY, text=5)
    states = torch.randn(1, 4, 5)
    given = torch.randn(1, 2, 3, 8, 8), torch.zeros(1, 2), torch.arange(2.0)
    torch.nn.init.normal_(model.head.weight)
    assert torch.equal(model(*given, told(states, 3)), model(*given))
    model(*given, told(states, 3)).square().sum().backward()
    assert model.blocks[0].cross.out.weight.grad.abs().sum() > 0


def test_classes_are_told_apart_and_minus_one_is_none() -> None:
    model = awake(classes=3)
    frame = torch.randn(1, 2, 3, 8, 8)
    given = frame.expand(4, -1, -1, -1, -1), torch.zeros(4, 2), torch.arange(2.0)
    out = model(*given, Context(labels=torch.tensor([0, 1, 2, -1])))
    apart = torch.cdist(out.flatten(1), out.flatten(1)) + torch.eye(4)
    assert apart.min() > 1e-3
    torch.testing.assert_close(out[3], model(*given)[0])


@pytest.mark.parametrize(
    "context",
    [
        Context(states=torch.zeros(1, 2, 5), mask=torch.ones(1, 2).bool()),
        Context(labels=torch.zeros(1, dtype=torch.int64)),
    ],
    ids=["text", "classes"],
)
def test_a_model_is_not_told_what_it_cannot_hear(context: Context) -> None:
    with pytest.raises(ValueError, match="not built"):
        awake()(torch.zeros(1, 2, 3, 8, 8), torch.zeros(1, 2), torch.arange(2.0), context)
