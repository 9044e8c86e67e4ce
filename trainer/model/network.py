"""The network that a configuration asks for."""

from importlib import import_module
from typing import Any, TypeVar

from torch import nn

from shards import UsageError
from trainer.config import ModelConfig
from trainer.libraries import import_diffusers
from trainer.model.adapted import Adapted, family_of
from trainer.model.text import require_all
from trainer.model.transformer import SpaceTimeTransformer

Made = TypeVar("Made", bound=nn.Module)


def load_network(
    config: ModelConfig, channels: int = 3, text: int = 0, classes: int = 0
) -> nn.Module:
    """The network of a configuration; fresh weights are drawn from torch's generator.

    Args:
        channels: of what is denoised.
        text: channels of a state of text; 0: no text is given.
        classes: how many are given; 0: none.

    Raises:
        UsageError: diffusers is missing, there is no such network, or it is one for other latents
            or other conditions.
    """
    if config.ours:
        return _compiled(SpaceTimeTransformer(config, channels, text, classes), config)
    if ":" in config.family:
        return _compiled(_own(config), config)
    network = Adapted(_pretrained(config.pretrained) if config.pretrained else _fresh(config))
    asked = config.pretrained or config.family
    if network.channels != channels:
        raise UsageError(
            f"{asked} denoises {network.channels} channels and the codec has {channels}: choose "
            "the codec that the network was made for"
        )
    if text and text != network.width:
        raise UsageError(
            f"{asked} takes states of text with {network.width} channels and is given {text}: "
            "choose the text encoder that it was made for"
        )
    if classes:
        raise UsageError(f"{asked} knows no classes: drop conditioning.labels")
    if config.checkpointing:
        network.model.enable_gradient_checkpointing()  # type: ignore[operator]
    return _compiled(network.train(), config)


def require_per_slot(network: nn.Module) -> None:
    """UsageError unless a network takes each slot of a clip at its own noise level."""
    if not network.per_slot:
        name = network.name if isinstance(network, Adapted) else type(network).__name__
        raise UsageError(
            f"{name} takes one noise level a clip: levels that differ between slots need our "
            "transformer, Wan, SkyReels, Sana or LTX"
        )


def _compiled(network: Made, config: ModelConfig) -> Made:
    """The network, whose blocks are compiled when they are first called, if that is asked for.

    Each block by itself: one compilation serves all of them, and DDP, FSDP2 and checkpointing wrap
    them as they are. Names of weights stay.
    """
    whole: Any = network.model if isinstance(network, Adapted) else network
    if config.compile and getattr(whole, "_repeated_blocks", None):
        whole.compile_repeated_blocks()
    elif config.compile:
        for block in whole.blocks if isinstance(whole, SpaceTimeTransformer) else [whole]:
            block.compile()
    return network


def _own(config: ModelConfig) -> nn.Module:
    """The user's network; what it makes of channels and context is its own affair."""
    module, _, name = config.family.partition(":")
    try:
        made = getattr(import_module(module), name)(**config.settings())
    except (ImportError, AttributeError, TypeError) as error:
        raise UsageError(
            f"model.family {config.family} cannot be made: {error}; it names a class that can be "
            "imported (PYTHONPATH=. before the command finds modules of the current folder), and "
            "model.arguments are what it is called with"
        ) from error
    if not isinstance(made, nn.Module) or not isinstance(getattr(made, "per_slot", None), bool):
        raise UsageError(
            f"model.family {config.family} is no network: a torch module with an attribute "
            "per_slot, which says whether it takes each slot at its own noise level"
        )
    if config.checkpointing:
        raise UsageError(
            f"model.checkpointing knows nothing of {config.family}: drop it; let the class do that"
        )
    return made.train()


def _fresh(config: ModelConfig) -> nn.Module:
    family_of(config.family)
    made: Any = getattr(import_diffusers(), config.family)
    try:
        network: nn.Module = made(**config.settings())
    except TypeError as error:
        raise UsageError(f"model.arguments do not suit {config.family}: {error}") from error
    return network


def _pretrained(source: str) -> nn.Module:
    """The network of a folder or id, or of the pipeline there."""
    diffusers: Any = import_diffusers()
    read = diffusers.WanTransformer3DModel.load_config  # as all of its classes do
    wrong: list[OSError] = []
    for place in ("transformer", None):
        try:
            family = read(source, subfolder=place).get("_class_name")
        except OSError as error:
            wrong.append(error)
            continue
        family_of(str(family))
        network, found = getattr(diffusers, family).from_pretrained(
            source, subfolder=place, output_loading_info=True
        )
        require_all(found["missing_keys"], source)
        return network
    raise UsageError(
        f"model.pretrained {source} holds no network of diffusers: {wrong[-1]}"
    ) from wrong[-1]
