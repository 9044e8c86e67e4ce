"""What is known of diffusers' autoencoders: how each class lies in time, and scales its latents.

No class says so itself: given a clip of another length they drop or repeat frames in silence. The
tests run each of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float32
from torch import Tensor

from shards import UsageError
from trainer.codec.codec import FrameRule


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """A class of autoencoders.

    Attributes:
        rule: how its latents lie in time.
        encodes_apart, decodes_apart: it takes pictures `[n, 3, h, w]`, and no clips.
        one_by_one: it takes one clip alone.
        recomputes: diffusers' checkpointing of its blocks works; not where they remember frames.
    """

    rule: FrameRule
    encodes_apart: bool = False
    decodes_apart: bool = False
    one_by_one: bool = False
    recomputes: bool = True


_CAUSAL_4 = FrameRule(factor=4, step=4)
_PICTURES = Family(rule=FrameRule(), encodes_apart=True, decodes_apart=True)

FAMILIES: dict[str, Family] = {
    "AutoencoderKL": _PICTURES,
    "AutoencoderTiny": _PICTURES,
    # Its decoder mixes the frames of a clip.
    "AutoencoderKLTemporalDecoder": Family(rule=FrameRule(prefix=False), encodes_apart=True),
    "AutoencoderKLWan": Family(rule=_CAUSAL_4, recomputes=False),
    "AutoencoderKLMagvit": Family(rule=_CAUSAL_4, recomputes=False),
    # Its attention mask has the clips where others have the heads.
    "AutoencoderKLHunyuanVideo15": Family(rule=_CAUSAL_4, one_by_one=True),
    # Norms over all frames of a clip: every latent knows of every frame.
    "AutoencoderKLHunyuanVideo": Family(
        rule=FrameRule(factor=4, step=4, prefix=False, exact_first=False)
    ),
    # The same, of the eight frames (two latents) that it works on at a time.
    "AutoencoderKLCogVideoX": Family(
        rule=FrameRule(factor=4, step=8, prefix=False, exact_first=False)
    ),
    "AutoencoderKLMochi": Family(rule=FrameRule(factor=6, step=6)),
    "AutoencoderKLLTXVideo": Family(rule=FrameRule(factor=8, step=8)),
    "AutoencoderKLLTX2Video": Family(rule=FrameRule(factor=8, step=8)),
}


def family_of(name: str) -> Family:
    """What is known of a class of diffusers.

    Raises:
        UsageError: nothing.
    """
    if name not in FAMILIES:
        raise UsageError(
            f"{name} is no autoencoder whose frame rule is known; these are: {', '.join(FAMILIES)}"
        )
    return FAMILIES[name]


def rule_of(model: torch.nn.Module) -> FrameRule:
    """How the latents of an autoencoder lie in time, as it is configured.

    LTX's halves are causal or not by configuration; what is not causal knows of all frames.
    """
    rule, config = family_of(type(model).__name__).rule, settings_of(model)
    return replace(
        rule,
        prefix=config.get("decoder_causal", rule.prefix),
        exact_first=config.get("encoder_causal", rule.exact_first),
    )


def scaling_of(model: torch.nn.Module) -> tuple[Float32[Tensor, " c"], Float32[Tensor, " d"]]:
    """(mean, deviation), by channel or one for all: seen = (latent − mean)/deviation.

    So the networks that were trained on an autoencoder see its latents. The figures stand in its
    configuration, of LTX in its buffers. CogVideoX's `invert_scale_latents` concerns the picture
    that its image-to-video network is given beside the latents, not these.
    """
    known = {**settings_of(model), **dict(model.named_buffers())}

    def figure(*names: str, otherwise: float) -> Float32[Tensor, " c"]:
        given = [known[name] for name in names if known.get(name) is not None]
        return torch.as_tensor(given[0] if given else otherwise).float().reshape(-1)

    mean = figure("latents_mean", "shift_factor", otherwise=0.0)
    return mean, figure("latents_std", otherwise=1.0) / figure("scaling_factor", otherwise=1.0)


def settings_of(model: torch.nn.Module) -> Mapping[str, Any]:
    """The arguments that an autoencoder was made with, defaults among them."""
    return dict(model.config)  # type: ignore[arg-type]
