"""What the network sees of the frames."""

from dataclasses import dataclass
from typing import Any, Literal

from trainer.config.rules import json_object, require


@dataclass(frozen=True, kw_only=True, slots=True)
class CodecConfig:
    """The codec between frames and what is denoised."""

    name: Literal["pixels", "vae"] = "pixels"
    """Denoise the pixels themselves, or the latents of a frozen autoencoder of diffusers."""
    pretrained: str = ""
    """Folder or Hugging Face id of the autoencoder, or of a pipeline that holds one as `vae`."""
    family: str = ""
    """Class of an autoencoder of random weights, as AutoencoderKLWan: for trials without any."""
    arguments: str = ""
    """The arguments of that class, a JSON object; empty: its defaults."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """What the autoencoder computes in; latents and frames are float32 in any case."""
    slice: int = 1
    """Clips (of an autoencoder of pictures: frames) encoded or decoded at once; bounds memory."""
    checkpointing: bool = False
    """Compute the insides of the decoder's blocks again where a gradient is wanted: a third of its
    memory or less, for one decoding more. Wan and EasyAnimate cannot."""
    tiling: bool = False
    """Cut large frames into tiles, as the autoencoder's class does it: less memory, faint seams."""

    def __post_init__(self) -> None:
        require(self.slice >= 1, f"codec.slice must be at least 1, got {self.slice}")
        sources = bool(self.pretrained) + bool(self.family)
        require(
            sources == (self.name == "vae"),
            f"codec.pretrained {self.pretrained!r} and codec.family {self.family!r}: codec.name "
            f"{self.name} takes {'one of the two' if self.name == 'vae' else 'neither'}",
        )
        require(
            not self.arguments or bool(self.family),
            f"codec.arguments {self.arguments!r} belong to a codec.family, and none is given",
        )
        self.settings()

    def settings(self) -> dict[str, Any]:
        """The `arguments`."""
        return json_object(self.arguments, "codec.arguments", '{"z_dim": 16}')
