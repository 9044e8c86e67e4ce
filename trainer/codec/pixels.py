"""No codec: the network sees the pixels."""

from dataclasses import dataclass, field

from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from trainer.codec.codec import FrameRule


def to_signal(frames: UInt8[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
    """Frames as the signal that is denoised, in (-1, 1)."""
    return (frames.float() - 127.5) / 128


def to_unit(signal: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The signal in [0, 1], as flow estimators take it.

    Halves and a power of two make the way there and back exact: true frames come out as
    frames / 255 to the last bit, and have the very flow that was stored.
    """
    return (signal * 128 + 127.5) / 255


@dataclass(frozen=True, slots=True)
class Pixels:
    """A latent for each frame: its pixels in (-1, 1)."""

    rule: FrameRule = field(default_factory=FrameRule)
    channels: int = 3
    spatial: int = 1

    def encode(self, frames: UInt8[Tensor, "b t 3 h w"]) -> Float32[Tensor, "b t 3 h w"]:
        """Exact; see `to_signal`."""
        return to_signal(frames)

    def decode(self, latents: Float[Tensor, "b t 3 h w"]) -> Float[Tensor, "b t 3 h w"]:
        """The exact inverse, in [0, 1]."""
        return to_unit(latents)
