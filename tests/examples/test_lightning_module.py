from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch

from flow_cache.estimators.network import import_torchvision

pytestmark = pytest.mark.filterwarnings("ignore")  # of theirs


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """With Lightning, which imports torchvision: here it may be one of another torch."""
    import_torchvision()
    return import_module("examples.lightning_module")


def test_a_run_in_two_parts_ends_where_one_in_a_piece_does(
    script: ModuleType, made, small, tmp_path: Path
) -> None:
    config = small(script.CONFIG)
    script.main(made.dataset.url, tmp_path / "whole", config)
    for clips in (2, 6):
        script.main(made.dataset.url, tmp_path / "parts", replace(config, clips=clips))
    whole, parts = (
        torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("whole", "parts")
    )
    assert whole["global_step"] == parts["global_step"] == 3
    (state,) = parts["loops"]["fit_loop"]["state_dict"]["combined_loader"]
    assert state["position"] == 6
    for name, weight in whole["state_dict"].items():
        assert torch.equal(weight, parts["state_dict"][name]), name
    assert whole["state_dict"]["network.head.weight"].any()
