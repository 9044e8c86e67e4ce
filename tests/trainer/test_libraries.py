import importlib.util

import pytest

from shards import UsageError
from trainer.libraries import import_diffusers, import_transformers


def test_they_are_imported_beside_any_torchvision() -> None:
    assert import_diffusers().__name__ == "diffusers"
    assert import_transformers().T5EncoderModel is not None  # needs torchvision where there is one


def test_a_missing_one_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"transformers is not installed: pip install .*models"):
        import_transformers()
