"""Large optional libraries, imported where they are first used."""

import importlib
import importlib.util
from types import ModuleType

from flow_cache.estimators.network import import_torchvision
from shards import UsageError


def import_diffusers() -> ModuleType:
    """diffusers; see `import_transformers`."""
    return _import("diffusers")


def import_transformers() -> ModuleType:
    """transformers, beside whatever torchvision there is.

    Both import torchvision where they find one, and one built for another torch would end that.

    Raises:
        UsageError: it is not installed.
    """
    return _import("transformers")


def _import(name: str) -> ModuleType:
    if importlib.util.find_spec(name) is None:
        raise UsageError(f"{name} is not installed: pip install 'fluxshard[models]'")
    if importlib.util.find_spec("torchvision") is not None:
        import_torchvision()
    return importlib.import_module(name)
