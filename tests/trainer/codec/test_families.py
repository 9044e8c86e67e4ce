"""What we say of diffusers' autoencoders holds: seen by leaving out what comes later."""

from typing import Any

import pytest
import torch
from torch import Tensor

from shards import UsageError
from tests.autoencoders import TINY
from trainer.codec.families import FAMILIES, family_of, scaling_of

SAME = 1e-5  # of the largest value: float32 over kernels of other sizes


def apart(one: Tensor, other: Tensor) -> float:
    """How far two are apart, of the largest value; endless for other shapes."""
    if one.shape != other.shape:
        return float("inf")
    return float((one - other).abs().max() / other.abs().max())


def test_every_family_is_tried() -> None:
    assert {family for family, _ in TINY.values()} == FAMILIES.keys()


@pytest.mark.parametrize("name", TINY)
def test_latent_0_is_that_of_frame_0_alone_just_where_we_say_so(name: str, small) -> None:
    lone = small.codec(name).encode(small.clips(name)[:1, :1])
    assert lone.shape[1] == 1
    difference = apart(lone, small.latents(name)[:1, :1])
    assert difference < SAME if small.codec(name).rule.exact_first else difference > 0.01


@pytest.mark.parametrize("name", TINY)
@torch.no_grad()
def test_the_first_latents_decode_to_the_first_frames_just_where_we_say_so(
    name: str, small
) -> None:
    codec, latents, whole = small.codec(name), small.latents(name)[:1], small.frames(name)[:1]
    differences = []
    for count in range(1, latents.shape[1]):
        frames = codec.rule.first_frame(count)  # the first that a later latent holds
        differences.append(apart(codec.decode(latents[:, :count]), whole[:, :frames]))
    assert max(differences) < SAME if codec.rule.prefix else max(differences) > 0.01


@torch.no_grad()
def test_wan_decodes_prefixes_to_the_last_bit(small) -> None:
    """With as many values in a latent as kernels take at a time, or more: the rest rounds else."""
    wan = small.codec("wan")
    latents = torch.randn(1, 3, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    whole = wan.decode(latents)
    for count, frames in ((1, 1), (2, 5)):
        assert torch.equal(wan.decode(latents[:, :count]), whole[:, :frames])


@torch.no_grad()
def test_latents_in_the_middle_of_wans_are_not_decoded_by_themselves(small) -> None:
    """Their first would become a single frame: hence prefixes."""
    middle = small.codec("wan").decode(small.latents("wan")[:, 1:])
    assert middle.shape[1] == 5
    assert apart(middle[:, 1:], small.frames("wan")[:, -4:]) > 0.01


def test_a_class_that_is_not_known_is_refused_with_those_that_are() -> None:
    with pytest.raises(UsageError, match=r"AutoencoderOobleck is no autoencoder.*AutoencoderKLWan"):
        family_of("AutoencoderOobleck")


@pytest.mark.parametrize(
    ("config", "buffers", "mean", "deviation"),
    [
        ({"scaling_factor": 0.25}, {}, [0.0], [4.0]),  # SD, SVD, CogVideoX, HunyuanVideo
        ({"scaling_factor": 0.25, "shift_factor": 0.5}, {}, [0.5], [4.0]),  # SD 3
        (
            {"latents_mean": [1.0, 2.0], "latents_std": [3.0, 4.0]},
            {},
            [1.0, 2.0],
            [3.0, 4.0],
        ),  # Wan
        (
            {"latents_mean": None, "latents_std": None, "shift_factor": None, "scaling_factor": 2},
            {"latents_mean": torch.tensor([1.0, 2.0]), "latents_std": torch.tensor([3.0, 4.0])},
            [1.0, 2.0],
            [1.5, 2.0],
        ),  # LTX
        ({}, {}, [0.0], [1.0]),
    ],
)
def test_latents_are_scaled_as_the_classes_pipelines_scale_them(
    config, buffers, mean, deviation
) -> None:
    model: Any = torch.nn.Module()
    for name, buffer in buffers.items():
        model.register_buffer(name, buffer)
    model.config = config
    given_mean, given_deviation = scaling_of(model)
    assert given_mean.tolist() == mean
    assert given_deviation.tolist() == deviation
