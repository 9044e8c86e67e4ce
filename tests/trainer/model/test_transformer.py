import pytest
import torch

from shards.store import UsageError
from trainer.config import ModelConfig
from trainer.model.transformer import SpaceTimeTransformer, patches, pixels, waves

TINY = ModelConfig(dim=32, depth=1, heads=2, patch=4)


def awake(config: ModelConfig = TINY) -> SpaceTimeTransformer:
    """A model whose zero-initialised layers are not zero."""
    torch.manual_seed(0)
    model = SpaceTimeTransformer(config)
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
    both = model(clips, torch.tensor([[0.1, 0.1], [-0.5, -0.5]]), time)
    alone = model(clips[1:], torch.tensor([[-0.5, -0.5]]), time)
    torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(alone, model(clips[1:], torch.tensor([[0.1, 0.1]]), time))


def test_each_slot_has_its_own_noise_level() -> None:
    """Of two slots that show the same at the same time, only the levels can tell which is which."""
    model, frame = awake(), torch.randn(1, 1, 3, 8, 8)
    clip, time = frame.expand(-1, 2, -1, -1, -1), torch.zeros(2)
    one, other = model(clip, torch.tensor([[0.1, -0.5]]), time)[0]
    assert not torch.allclose(one, other, atol=1e-3)
    swapped = model(clip, torch.tensor([[-0.5, 0.1]]), time)[0]
    torch.testing.assert_close(swapped, torch.stack([other, one]), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(*model(clip, torch.tensor([[0.1, 0.1]]), time)[0])


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
