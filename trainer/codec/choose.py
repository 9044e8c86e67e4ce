"""The codec that a configuration names."""

from typing import Any

import torch

from shards import UsageError, fold
from trainer.codec.codec import Codec
from trainer.codec.families import family_of
from trainer.codec.pixels import Pixels
from trainer.codec.vae import wrap
from trainer.config import CodecConfig
from trainer.libraries import import_diffusers


def load_codec(config: CodecConfig, device: torch.device | str = "cpu") -> Codec:
    """The codec of a configuration, frozen, on a device.

    Raises:
        UsageError: diffusers is missing, there is no such autoencoder or not all of its weights,
            or its frame rule is not known.
    """
    if config.name == "pixels":
        return Pixels()
    dtype = getattr(torch, config.dtype)
    model = stored(config.pretrained, dtype) if config.pretrained else random(config, dtype)
    if config.checkpointing:
        name = type(model).__name__
        if not family_of(name).recomputes:
            raise UsageError(
                f"{name} cannot compute the insides of its blocks again: leave codec.checkpointing "
                "off, and for less memory lower codec.slice or the size of frames"
            )
        model.enable_gradient_checkpointing()
    if config.tiling:
        model.enable_tiling()
    return wrap(model.to(device), config.slice)


def random(config: CodecConfig, dtype: torch.dtype) -> Any:
    """An autoencoder of random weights, the same every time.

    Raises:
        UsageError: its frame rule is not known, or it has no such arguments.
    """
    family = _class(config.family)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold(0, "codec"))
        try:
            model = family(**config.settings())
        except TypeError as error:
            raise UsageError(f"codec.arguments {config.arguments}: {error}") from error
    return torch.nn.Module.to(model, dtype)  # the class's own would warn of what it keeps exact


def stored(place: str, dtype: torch.dtype) -> Any:
    """The autoencoder in a folder or of a Hugging Face id, be it a pipeline's.

    Raises:
        UsageError: there is none, or weights of it are missing.
    """
    try:
        inside, settings = _settings(place)
        name = settings.get("_class_name", "")
        model, loaded = _class(name).from_pretrained(
            place, subfolder=inside, torch_dtype=dtype, output_loading_info=True
        )
    except OSError as error:
        raise UsageError(
            f"codec.pretrained {place}: no autoencoder of diffusers could be loaded from there; "
            f"give a folder that its save_pretrained wrote, or a Hugging Face id ({error})"
        ) from error
    if missing := [*loaded["missing_keys"], *loaded["mismatched_keys"]]:
        raise UsageError(f"codec.pretrained {place} lacks weights of {name}: {missing[:3]}")
    return model


def _class(name: str) -> Any:
    """A class of diffusers whose frame rule is known."""
    family_of(name)
    diffusers = import_diffusers()
    if not hasattr(diffusers, name):
        raise UsageError(
            f"diffusers {diffusers.__version__} has no {name}: pip install --upgrade diffusers"
        )
    return getattr(diffusers, name)


def _settings(place: str) -> tuple[str | None, dict[str, Any]]:
    """(folder inside, configuration): a pipeline's autoencoder lies in its folder `vae`."""
    load = import_diffusers().AutoModel.load_config
    try:
        return "vae", load(place, subfolder="vae")
    except OSError:
        return None, load(place)
