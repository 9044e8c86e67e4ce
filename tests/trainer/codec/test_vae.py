from dataclasses import replace

import pytest
import torch
from torch import Tensor

from shards import UsageError
from tests.autoencoders import TINY
from trainer.codec.vae import wrap
from trainer.libraries import import_diffusers


@pytest.mark.parametrize("name", ["wan", "mochi", "cogvideox", "ltx"])
@torch.no_grad()
def test_there_and_back_is_the_autoencoders_own_reconstruction(name: str, small) -> None:
    codec, latents = small.codec(name), small.latents(name)[:1].transpose(1, 2)
    signal = small.clips(name)[:1].float().transpose(1, 2) / 127.5 - 1
    own = codec.model.encode(signal).latent_dist.mode()
    mean, deviation = (x.reshape(-1, 1, 1, 1) for x in (codec.mean, codec.deviation))
    torch.testing.assert_close(latents, (own - mean) / deviation)
    reconstruction = (codec.model.decode(own).sample.transpose(1, 2) + 1) / 2
    torch.testing.assert_close(small.frames(name)[:1], reconstruction, rtol=1e-4, atol=1e-5)


def test_wans_latents_are_scaled_by_its_own_figures(small) -> None:
    wan = small.codec("wan")
    assert wan.mean.flatten()[:2].tolist() == pytest.approx([-0.7571, -0.7089])
    assert wan.deviation.flatten()[:2].tolist() == pytest.approx([2.8184, 1.4541])


def test_a_gradient_costs_the_memory_of_one_slice_not_of_all(small) -> None:
    """Between there and back a checkpointed slice keeps its latents and nothing of its inside."""
    wan, kept = small.codec("wan"), []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.nbytes)
        return tensor

    latents = small.latents("wan").clone().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        frames = wan.decode(latents)
    assert sum(kept) < frames.nbytes
    frames.sum().backward()
    assert wan.model._feat_map == [None] * len(wan.model._feat_map)  # nor what Wan remembers


def test_the_gradient_is_that_of_the_whole_batch_at_once(small) -> None:
    codec, gradients = small.codec("ltx that denoises"), []
    for slice in (1, 3):
        latents = small.latents("ltx that denoises").clone().requires_grad_()
        replace(codec, slice=slice).decode(latents).square().sum().backward()
        gradients.append(latents.grad)
    one, whole = gradients
    assert (one - whole).abs().max() < 1e-4 * whole.abs().max()


def test_the_noise_that_a_decoder_adds_is_its_own() -> None:
    """It neither follows nor moves the generator of the one who calls, nor knows of slices."""
    family, arguments = TINY["ltx that denoises"]
    model = getattr(import_diffusers(), family)(**arguments)
    for name, parameter in model.named_parameters():
        if "per_channel_scale" in name:  # how much noise: none in a new network
            parameter.data.fill_(0.5)
    codec, latents = wrap(model), torch.ones(2, 2, 8, 2, 2)
    torch.manual_seed(1)
    one, after = codec.decode(latents), torch.rand(1)
    torch.manual_seed(2)
    assert torch.equal(codec.decode(latents), one)
    torch.testing.assert_close(replace(codec, slice=2).decode(latents), one)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after)


def test_an_autoencoder_keeps_its_precision_under_autocast(small) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        latents = small.codec("wan").encode(small.clips("wan"))
    assert torch.equal(latents, small.latents("wan"))


def test_clips_of_more_frames_than_hunyuan_takes_at_once_have_a_gradient(small) -> None:
    """Above 16 it works on parts and blends them, in place."""
    hunyuan = small.codec("hunyuan")
    clips = torch.randint(0, 256, (1, 17, 3, 16, 16), dtype=torch.uint8)
    latents = hunyuan.encode(clips).requires_grad_()
    assert latents.shape[1] == 5
    hunyuan.decode(latents).square().sum().backward()
    assert (latents.grad.abs().amax(dim=(0, 2, 3, 4)) > 0).all()


def test_a_wrapped_autoencoder_is_frozen() -> None:
    family, arguments = TINY["ltx"]
    model = getattr(import_diffusers(), family)(**arguments)
    assert model.training
    vae = wrap(model)
    assert not vae.model.training
    assert not any(parameter.requires_grad for parameter in vae.model.parameters())


def test_an_autoencoder_that_compresses_otherwise_than_its_class_is_refused() -> None:
    family, arguments = TINY["ltx"]
    scaling = {
        "spatio_temporal_scaling": [True, True, False, False],
        "decoder_spatio_temporal_scaling": [True, True, False, False],
    }
    model = getattr(import_diffusers(), family)(**arguments, **scaling)
    with pytest.raises(UsageError, match=r"makes 3 latents and then 9 frames of 9.* 2 and 9 are"):
        wrap(model)
