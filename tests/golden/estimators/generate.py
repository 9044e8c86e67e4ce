"""Writes the golden flow of every estimator. Files that exist are left alone.

A revision keeps its flow: an estimator that shall give other flow gets another `revision`, and
with it another file here.

Run from the repository root: python -m tests.golden.estimators.generate
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from flow_cache import FlowEstimator, load_estimator
from flow_cache.coding import exact_step
from flow_cache.estimators import ptlflow
from flow_cache.estimators.network import import_torchvision
from fluxshard.demo.scenes import random_scene

FOLDER = Path(__file__).parent
STEP = exact_step(1 / 32)  # pixels: what a layer stores by default
PAIRS = [(0, 1), (1, 0), (0, 2)]
NAMES = {  # of the estimators that run without a download, by the flow they give
    "dis": "dis",
    "dis-fast": "dis:preset=fast",
    "dis-ultrafast": "dis:preset=ultrafast",
    "variational": "variational",
    "raft_small": "raft_small:updates=3",
    "raft_large": "raft_large:updates=3",
    "ptlflow": "ptlflow:plain",
}


def codes(estimator: FlowEstimator) -> np.ndarray:
    """Flow of small seeded pictures in whole steps, [pairs, 2, h, w]; small and large motion."""
    scene = random_scene(11, (62, 84), spin=0.02)
    frames = torch.from_numpy(scene.clip([0.0, 1.0, 5.0]))
    flow = estimator.clip(frames, PAIRS)[0].numpy()
    return np.rint(flow / np.float32(STEP)).astype(np.int16)


def golden_file(case: str, revision: str) -> Path:
    return FOLDER / f"{case}-{revision}.npz"


@contextmanager
def loaded(case: str) -> Iterator[FlowEstimator]:
    """The estimator of a case on one thread; networks with seeded random weights."""
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        with TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
            patch.setenv("TORCH_HOME", home)
            checkpoints = Path(home) / "hub" / "checkpoints"
            checkpoints.mkdir(parents=True)
            if case.startswith("raft"):
                save_raft(case, checkpoints)
            if case == "ptlflow":
                stand_in(patch, checkpoints)
            yield load_estimator(NAMES[case])
    finally:
        torch.set_num_threads(threads[0])
        cv2.setNumThreads(threads[1])


def randomise(network: nn.Module) -> nn.Module:
    """Weights from numpy's generator, whose numbers no version of torch changes."""
    random = np.random.default_rng(0)
    with torch.no_grad():
        for weights in network.parameters():
            scale = 1 / np.sqrt(max(weights[0].numel(), 1))
            values = random.normal(0, scale, tuple(weights.shape)).astype(np.float32)
            weights.copy_(torch.from_numpy(values))
    return network


def save_raft(model: str, folder: Path) -> None:
    import_torchvision()
    zoo = import_module("torchvision.models.optical_flow")
    network = randomise(getattr(zoo, model)(weights=None))
    url = getattr(zoo, model.title() + "_Weights").DEFAULT.url
    torch.save(network.state_dict(), folder / url.rsplit("/", 1)[-1])


class Plain(nn.Module):
    """In place of a model of ptlflow: convolutions that see borders, channels and padding."""

    pretrained_checkpoints: ClassVar = {"things": "https://example.org/plain.ckpt"}

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(6, 8, 9, padding=4), nn.ReLU(), nn.Conv2d(8, 2, 1))
        randomise(self)

    def forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        flow = 8 * self.layers(inputs["images"].flatten(1, 2))
        return {"flows": (flow + flow.mean((-2, -1), keepdim=True))[:, None]}


def stand_in(patch: pytest.MonkeyPatch, folder: Path) -> None:
    module: Any = ModuleType("ptlflow")
    module.get_model_reference = lambda name: Plain
    module.get_model = lambda name, ckpt_path: Plain()
    patch.setitem(sys.modules, "ptlflow", module)
    patch.setattr(ptlflow, "find_spec", lambda name: name)
    patch.setattr(ptlflow, "version", lambda name: "stand-in")
    patch.setattr(ptlflow, "import_torchvision", lambda: None)
    (folder / "plain.ckpt").write_bytes(b"weights")


def main() -> None:
    for case in NAMES:
        with loaded(case) as estimator:
            file = golden_file(case, estimator.revision)
            if not file.exists():
                np.savez_compressed(file, codes=codes(estimator))


if __name__ == "__main__":
    main()
