"""Every codec, small."""

import json
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from tests.autoencoders import TINY
from trainer.codec.choose import load_codec
from trainer.codec.codec import Codec
from trainer.config import CodecConfig


@cache
def codec_of(name: str) -> Codec:
    """A codec by its name in `TINY`, or the pixels."""
    if name == "pixels":
        return load_codec(CodecConfig())
    family, arguments = TINY[name]
    return load_codec(CodecConfig(name="vae", family=family, arguments=json.dumps(arguments)))


@cache
def clips_of(name: str) -> Tensor:
    """Two clips that the codec takes, uint8 [2, t, 3, h, w]."""
    codec = codec_of(name)
    frames = {1: 4, 4: 9}.get(codec.rule.step, codec.rule.step + 1)
    side = max(16, 2 * codec.spatial)
    noise = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, frames, 3, side, side), dtype=torch.uint8, generator=noise)


@cache
def latents_of(name: str) -> Tensor:
    """Those of the clips."""
    return codec_of(name).encode(clips_of(name))


@cache
@torch.no_grad()
def frames_of(name: str) -> Tensor:
    """What the latents decode to."""
    return codec_of(name).decode(latents_of(name))


class Small(NamedTuple):
    """What tests ask about a codec by name; each is computed once."""

    codec: Callable[[str], Codec]
    clips: Callable[[str], Tensor]
    latents: Callable[[str], Tensor]
    frames: Callable[[str], Tensor]


@pytest.fixture(scope="session")
def small() -> Small:
    return Small(codec_of, clips_of, latents_of, frames_of)
