from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from shards import UsageError
from trainer.libraries import import_diffusers
from trainer.model.adapted import FAMILIES, Adapted, cogvideox_rotation, family_of
from trainer.model.context import Context

WIDTH = 16  # channels of a state of text
TWO_HEADS = {"num_attention_heads": 2, "num_layers": 1}
WAN = TWO_HEADS | {
    "attention_head_dim": 12,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": WIDTH,
    "freq_dim": 16,
    "ffn_dim": 16,
    "rope_max_seq_len": 32,
}
COGVIDEOX = TWO_HEADS | {
    "attention_head_dim": 16,
    "in_channels": 4,
    "out_channels": 4,
    "time_embed_dim": 8,
    "text_embed_dim": WIDTH,
    "sample_width": 8,
    "sample_height": 4,
    "sample_frames": 9,
    "max_text_seq_length": 6,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "WanTransformer3DModel": WAN,
    "SkyReelsV2Transformer3DModel": WAN | {"inject_sample_info": True},
    "SanaVideoTransformer3DModel": TWO_HEADS
    | {
        "in_channels": 4,
        "out_channels": 4,
        "attention_head_dim": 12,
        "num_cross_attention_heads": 2,
        "cross_attention_head_dim": 12,
        "cross_attention_dim": 24,
        "caption_channels": WIDTH,
        "rope_max_seq_len": 32,
    },
    "LTXVideoTransformer3DModel": TWO_HEADS
    | {
        "in_channels": 4,
        "out_channels": 4,
        "attention_head_dim": 12,
        "cross_attention_dim": 24,
        "caption_channels": WIDTH,
    },
    "CogVideoXTransformer3DModel": COGVIDEOX,
    "HunyuanVideoTransformer3DModel": {
        "in_channels": 4,
        "out_channels": 4,
        "num_attention_heads": 2,
        "attention_head_dim": 12,
        "num_layers": 1,
        "num_single_layers": 1,
        "num_refiner_layers": 1,
        "text_embed_dim": WIDTH,
        "pooled_projection_dim": 8,
        "rope_axes_dim": (4, 4, 4),
    },
    "MochiTransformer3DModel": TWO_HEADS
    | {
        "attention_head_dim": 12,
        "pooled_projection_dim": 8,
        "in_channels": 4,
        "text_embed_dim": WIDTH,
        "time_embed_dim": 8,
        "max_sequence_length": 6,
    },
    "UNetMotionModel": {
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (8, 8),
        "down_block_types": ("CrossAttnDownBlockMotion", "DownBlockMotion"),
        "up_block_types": ("UpBlockMotion", "CrossAttnUpBlockMotion"),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "cross_attention_dim": WIDTH,
        "num_attention_heads": 2,
        "motion_num_attention_heads": 2,
        "motion_max_seq_length": 8,
    },
}
LEVELLED = [name for name, family in FAMILIES.items() if family.per_slot]
CLIP, LEVELS, TIME = (2, 3, 4, 4, 8), torch.tensor([[300.0] * 3, [900.0] * 3]), torch.arange(3.0)

pytestmark = pytest.mark.filterwarnings("ignore")  # of theirs


def tiny(name: str, **settings: Any) -> Adapted:
    """A network of random weights, none of which is zero."""
    torch.manual_seed(0)
    network = Adapted(getattr(import_diffusers(), name)(**SETTINGS[name] | settings))
    for parameter in network.parameters():
        if parameter.abs().sum() == 0:
            torch.nn.init.normal_(parameter, std=0.1)
    return network.eval()


@pytest.fixture(scope="module")
def networks() -> dict[str, Adapted]:
    return {name: tiny(name) for name in FAMILIES}


def clip() -> Tensor:
    return torch.randn(CLIP, generator=torch.Generator().manual_seed(1))


def text(*words: int) -> Any:
    """Of each clip so many words, and zeros behind them."""
    states = torch.randn(len(words), 6, WIDTH, generator=torch.Generator().manual_seed(2))
    mask = torch.arange(6) < torch.tensor(words)[:, None]
    return Context(states=states * mask[..., None], mask=mask)


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_each_class_answers_in_the_shape_of_the_clip_and_hears_level_and_text(
    networks: dict[str, Adapted], name: str
) -> None:
    network = networks[name]
    out = network(clip(), LEVELS, TIME, text(3, 5))
    assert out.shape == CLIP
    assert out.isfinite().all()
    louder = network(clip(), LEVELS + 50, TIME, text(3, 5))
    other = network(clip(), LEVELS, TIME, text(3, 2))
    assert not torch.allclose(out[0], louder[0], atol=1e-5)
    torch.testing.assert_close(out[0], other[0], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(out[1], other[1], atol=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_slots_and_sides_stay_where_they_are(networks: dict[str, Adapted], name: str) -> None:
    """What stands in the first slot on the left changes the answer there most."""
    given = clip()
    given[:, 1:] = 0
    given[..., 4:] = 0
    network = networks[name]
    plain = network(given * 0, LEVELS, TIME)
    change = (network(given * 30, LEVELS, TIME) - plain).abs()
    assert change[:, 0].mean() > change[:, 2].mean()
    assert change[:, 0, :, :, :4].mean() > change[:, 0, :, :, 4:].mean()


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_nothing_told_and_an_empty_text_are_finite(networks: dict[str, Adapted], name: str) -> None:
    assert networks[name](clip(), LEVELS, TIME).isfinite().all()
    assert networks[name](clip(), LEVELS, TIME, text(0, 0)).isfinite().all()


@pytest.mark.parametrize("name", LEVELLED)
@torch.no_grad()
def test_equal_levels_of_all_tokens_compute_what_one_level_does(
    networks: dict[str, Adapted], name: str
) -> None:
    network, context = networks[name], text(3, 5)
    given: dict[str, Any] = {"encoder_hidden_states": context.states, "timestep": LEVELS[:, 0]}
    given |= {"hidden_states": clip().transpose(1, 2), "return_dict": False}
    mask = context.mask.float()
    if name.startswith("Sana"):
        given |= {"encoder_attention_mask": mask}
    if name.startswith("Sky"):
        given |= {"fps": [1, 1]}
    if name.startswith("LTX"):
        given |= {"hidden_states": clip().permute(0, 1, 3, 4, 2).reshape(2, 96, 4)}
        given |= {"encoder_attention_mask": mask, "num_frames": 3, "height": 4, "width": 8}
        given |= {"rope_interpolation_scale": (8 / 25, 32, 32)}
    answer = network.model(**given)[0]
    if name.startswith("LTX"):
        answer = answer.reshape(2, 3, 4, 8, 4).permute(0, 4, 1, 2, 3)
    found = network(clip(), LEVELS, TIME, context)
    torch.testing.assert_close(found.transpose(1, 2), answer, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", LEVELLED)
@torch.no_grad()
def test_each_slot_is_told_its_own_level(networks: dict[str, Adapted], name: str) -> None:
    """Attention mixes slots a little, but a slot follows its own level by far the most."""
    network, plain = networks[name], LEVELS.clone()
    before = network(clip(), plain, TIME)
    for slot in range(3):
        levels = plain.clone()
        levels[:, slot] += 60
        change = (network(clip(), levels, TIME) - before).abs().mean(dim=(0, 2, 3, 4))
        assert change.argmax() == slot
        assert change[slot] > 2 * change.sort().values[1]


@pytest.mark.parametrize("name", sorted(FAMILIES.keys() - set(LEVELLED)))
def test_networks_of_one_level_refuse_several_by_name(
    networks: dict[str, Adapted], name: str
) -> None:
    assert not networks[name].per_slot
    levels = LEVELS.clone()
    levels[1, 2] = 0
    with pytest.raises(ValueError, match=rf"{name} takes one noise level .* Wan.*LTX"):
        networks[name](clip(), levels, TIME)


@torch.no_grad()
def test_mochi_runs_from_noise_to_clip(networks: dict[str, Adapted]) -> None:
    """Its scheduler inverts sigmas: timestep 1000 is the clip, its velocity points there."""
    mochi = networks["MochiTransformer3DModel"]
    context = text(3, 5)
    answer = mochi.model(
        clip().transpose(1, 2),
        encoder_hidden_states=context.states,
        timestep=torch.tensor([700.0, 100.0]),
        encoder_attention_mask=context.mask,
        return_dict=False,
    )[0]
    torch.testing.assert_close(mochi(clip(), LEVELS, TIME, context), -answer.transpose(1, 2))


@pytest.mark.parametrize(
    ("frames", "size"),
    [(None, (4, 8)), (None, (6, 8)), (None, (4, 14)), (2, (4, 8)), (2, (2, 6))],
    ids=str,
)
def test_cogvideox_has_the_positions_that_its_pipeline_makes(
    frames: int | None, size: tuple[int, int]
) -> None:
    from diffusers import CogVideoXPipeline

    settings = SimpleNamespace(**COGVIDEOX | {"patch_size": 2, "patch_size_t": frames})
    pipeline = SimpleNamespace(
        vae_scale_factor_spatial=8, transformer=SimpleNamespace(config=settings)
    )
    height, width = size
    expected = CogVideoXPipeline._prepare_rotary_positional_embeddings(
        pipeline, 8 * height, 8 * width, 4, torch.device("cpu")
    )
    found = cogvideox_rotation(settings, torch.zeros(1, 4, 4, height, width))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


@torch.no_grad()
def test_cogvideox_turns_by_these_positions() -> None:
    rotated = tiny("CogVideoXTransformer3DModel", use_rotary_positional_embeddings=True)
    assert rotated(clip(), LEVELS, TIME, text(3, 5)).shape == CLIP


def test_more_text_than_cogvideox_has_room_for_is_refused(networks: dict[str, Adapted]) -> None:
    context = Context(states=torch.zeros(2, 7, WIDTH), mask=torch.ones(2, 7, dtype=torch.bool))
    with pytest.raises(UsageError, match=r"room for 6 states.*conditioning.length to 6"):
        networks["CogVideoXTransformer3DModel"](clip(), LEVELS, TIME, context)


def test_a_size_that_patches_do_not_cover_is_refused(networks: dict[str, Adapted]) -> None:
    with pytest.raises(UsageError, match=r"WanTransformer3DModel .*multiples of its patch"):
        networks["WanTransformer3DModel"](torch.zeros(1, 3, 4, 5, 8), LEVELS[:1], TIME)


def test_classes_are_refused(networks: dict[str, Adapted]) -> None:
    context = Context(labels=torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="classes, of which Wan"):
        networks["WanTransformer3DModel"](clip(), LEVELS, TIME, context)


def test_gradients_reach_all_of_a_network(networks: dict[str, Adapted]) -> None:
    network = tiny("WanTransformer3DModel").train()
    network(clip(), LEVELS, TIME, text(3, 5)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_another_class_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"'UNet2DModel'.*WanTransformer3DModel"):
        family_of("UNet2DModel")
