import importlib.util

import pytest

from shards import UsageError
from trainer.libraries import import_diffusers


def test_diffusers_imports_beside_any_torchvision() -> None:
    assert import_diffusers().AutoencoderKLWan.__name__ == "AutoencoderKLWan"


def test_without_diffusers_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'fluxshard\[models\]'"):
        import_diffusers()
