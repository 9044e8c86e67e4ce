"""A frozen autoencoder of diffusers, as a codec."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

from shards import UsageError
from trainer.codec.codec import FrameRule
from trainer.codec.families import Family, family_of, rule_of, scaling_of, settings_of

_SIDE = 64  # pixels of the clip that an autoencoder is tried on; a multiple of every compression


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Vae:
    """Latents of a diffusers autoencoder, scaled as the networks that were trained on it see them.

    A latent is the mean of what the encoder says, not a sample: the same clip, the same latents.
    Clips go through in slices, so that memory does not grow with the batch. Where a gradient is
    wanted, each slice of `decode` keeps its latents alone and is decoded again on the way back.

    Attributes:
        model: of diffusers; frozen, in evaluation mode.
        rule, channels, spatial: see `Codec`.
        mean, deviation: of the latents, by channel or one for all.
        slice: clips at a time, or frames where the autoencoder works on pictures.
    """

    model: Any
    rule: FrameRule
    channels: int
    spatial: int
    mean: Float32[Tensor, "m 1 1"]
    deviation: Float32[Tensor, "d 1 1"]
    slice: int = 1

    @property
    def family(self) -> Family:
        """What is known of the autoencoder's class."""
        return family_of(type(self.model).__name__)

    def encode(self, frames: UInt8[Tensor, "b t 3 h w"]) -> Float32[Tensor, "b u c y x"]:
        """The latents of clips.

        Raises:
            UsageError: the autoencoder has no clips of this length or size.
        """
        self.rule.latents(frames.shape[1])
        height, width = frames.shape[-2:]
        if height % self.spatial or width % self.spatial:
            raise UsageError(
                f"frames of {height}x{width} do not suit {type(self.model).__name__}: height and "
                f"width must be multiples of {self.spatial}"
            )
        with torch.no_grad():
            latents = self._in_slices(self._encoded, frames, self.family.encodes_apart)
            return (latents - self.mean) / self.deviation

    def decode(self, latents: Float[Tensor, "b u c y x"]) -> Float32[Tensor, "b t 3 h w"]:
        """The clips of latents, in [0, 1]; differentiable. Wan cuts its answer there."""
        work: Callable[[Tensor], Tensor] = self._decoded
        if torch.is_grad_enabled() and latents.requires_grad:
            work = partial(checkpoint, work, use_reentrant=False)
        # An early stop would leave what Wan remembers of earlier frames in memory.
        with set_checkpoint_early_stop(False):
            unscaled = latents.float() * self.deviation + self.mean
            return self._in_slices(work, unscaled, self.family.decodes_apart)

    def _in_slices(
        self, work: Callable[[Tensor], Tensor], clips: Tensor, apart: bool
    ) -> Float32[Tensor, "b t c h w"]:
        """`work` on a few clips at a time; where `apart`, on a few frames, each as a clip."""
        units = clips.flatten(0, 1).unsqueeze(1) if apart else clips
        size = 1 if self.family.one_by_one else self.slice
        done = torch.cat([work(part) for part in units.split(size)])
        return done.squeeze(1).unflatten(0, clips.shape[:2]) if apart else done

    def _encoded(self, frames: UInt8[Tensor, "n t 3 h w"]) -> Float32[Tensor, "n u c y x"]:
        clips, apart = (frames.float() / 127.5 - 1).to(self.model.dtype), self.family.encodes_apart
        with self._steadily():
            answer = self.model.encode(clips.squeeze(1) if apart else clips.transpose(1, 2))
        # AutoencoderTiny knows no distribution.
        latents = answer.latent_dist.mode() if hasattr(answer, "latent_dist") else answer.latents
        return (latents.unsqueeze(1) if apart else latents.transpose(1, 2)).float()

    def _decoded(self, latents: Float32[Tensor, "n u c y x"]) -> Float32[Tensor, "n t 3 h w"]:
        decode, z = self.model.decode, latents.to(self.model.dtype)
        with self._steadily():
            if self.family.decodes_apart:
                clips = decode(z.squeeze(1)).sample.unsqueeze(1)
            elif self.family.encodes_apart:  # latents of pictures, decoded as a clip
                pictures = decode(z.flatten(0, 1), num_frames=z.shape[1]).sample
                clips = pictures.unflatten(0, z.shape[:2])
            else:
                # Some decoders of LTX are told how noisy latents are; these are clean.
                told = settings_of(self.model).get("timestep_conditioning")
                level = {"temb": z.new_zeros(len(z))} if told else {}
                clips = decode(z.transpose(1, 2), **level).sample.transpose(1, 2)
        return (clips.float() + 1) / 2

    @contextmanager
    def _steadily(self) -> Iterator[None]:
        """In the autoencoder's own precision, and with the same noise where it adds any (LTX)."""
        device = self.model.device
        noisy = any(settings_of(self.model).get("decoder_inject_noise") or ())
        exact = torch.autocast(device.type, enabled=False)
        with torch.random.fork_rng([device] * (device.type == "cuda"), enabled=noisy), exact:
            if noisy:
                torch.manual_seed(0)
            yield


def wrap(model: Any, slice: int = 1) -> Vae:
    """The codec of an autoencoder of diffusers, which it freezes where it is.

    It is tried on a small clip, because what a class compresses depends on its configuration.

    Raises:
        UsageError: its frame rule is not known, or is not that of its class.
    """
    model.requires_grad_(False).eval()
    rule, name = rule_of(model), type(model).__name__
    mean, deviation = (figure.to(model.device)[:, None, None] for figure in scaling_of(model))
    vae = Vae(
        model=model,
        rule=rule,
        channels=0,
        spatial=1,
        mean=mean,
        deviation=deviation,
        slice=slice,
    )
    shown = rule.step + 1
    clip = torch.zeros(1, shown, 3, _SIDE, _SIDE, dtype=torch.uint8, device=model.device)
    latents = vae.encode(clip)
    with torch.no_grad():
        back = vae.decode(latents)
    if latents.shape[1] != rule.latents(shown) or back.shape != clip.shape:
        raise UsageError(
            f"{name} as it is configured makes {latents.shape[1]} latents and then "
            f"{back.shape[1]} frames of {shown}; of its class {rule.latents(shown)} and {shown} "
            "are expected"
        )
    return replace(vae, channels=latents.shape[2], spatial=_SIDE // latents.shape[-1])
