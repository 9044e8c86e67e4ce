"""A stand-in for the ptlflow package with the interface that the estimator uses."""

import hashlib
import sys
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import pytest
import torch

from flow_cache.estimators import EstimatorUnavailable, load_estimator
from flow_cache.estimators import ptlflow as ours

URL = "https://example.org/tint-things-0123abcd.ckpt"


class TintModel(torch.nn.Module):
    """Its "flow" tells the order of images and channels: red difference, blue difference."""

    pretrained_checkpoints: ClassVar = {"things": URL}

    def forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        first, second = inputs["images"].unbind(1)
        flow = torch.stack([(second - first)[:, 2], (second - first)[:, 0]], 1)
        return {"flows": flow[:, None]}


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Installs the stand-in; returns the file that holds its "weights"."""
    module = ModuleType("ptlflow")
    module.get_model_reference = {"tint": TintModel}.__getitem__  # type: ignore[attr-defined]
    module.get_model = lambda name, ckpt_path: TintModel()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ptlflow", module)
    monkeypatch.setattr(ours, "find_spec", lambda name: name)
    monkeypatch.setattr(ours, "version", lambda name: "0.4.2")
    monkeypatch.setattr(ours, "import_torchvision", lambda: None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / "tint-things-0123abcd.ckpt"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    return file


def test_channels_order_and_identity(stand_in: Path) -> None:
    estimator = load_estimator("ptlflow:tint")
    frames = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    frames[1, 0], frames[1, 2] = 51, 102
    flow, visible = estimator.clip(frames, [(0, 1), (1, 0), (1, 1)])
    assert visible is None
    expected = torch.tensor([[0.2, 0.4], [-0.2, -0.4], [0.0, 0.0]])
    torch.testing.assert_close(flow.mean((-2, -1)), expected)
    assert (estimator.name, estimator.revision) == ("ptlflow:tint", "ptlflow-0.4.2")
    assert estimator.params == {"checkpoint": "things"}
    assert estimator.weights_sha256 == hashlib.sha256(b"weights").hexdigest()


def test_checkpoint_from_a_file(stand_in: Path) -> None:
    assert load_estimator("ptlflow:tint", checkpoint=str(stand_in)).weights_sha256
    with pytest.raises(ValueError, match="'kitti' of ptlflow:tint; choose things"):
        load_estimator("ptlflow:tint", checkpoint="kitti")


def test_missing_package_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "find_spec", lambda name: None)
    with pytest.raises(EstimatorUnavailable, match=r"pip install 'fluxshard\[ptlflow\]'"):
        load_estimator("ptlflow:raft")
