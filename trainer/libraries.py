"""Large optional libraries, imported where they are first used."""

import importlib
import importlib.util
from types import ModuleType

from flow_cache.estimators.network import import_torchvision
from shards import UsageError


def import_diffusers() -> ModuleType:
    """diffusers, beside whatever torchvision there is.

    It imports torchvision where it finds one, and one built for another torch would end its import.

    Raises:
        UsageError: it is not installed.
    """
    if importlib.util.find_spec("diffusers") is None:
        raise UsageError("diffusers is not installed: pip install 'fluxshard[models]'")
    if importlib.util.find_spec("torchvision") is not None:
        import_torchvision()
    return importlib.import_module("diffusers")
