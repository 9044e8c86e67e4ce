"""Writes the golden masks of every visibility criterion. Files that exist are left alone.

A criterion's id keeps its masks: one that shall give others gets another id, and another file here.

Run from the repository root: python -m tests.golden.visibility.generate
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from flow_cache.matching import matched_visibility
from flow_cache.occlusion import CRITERIA, MATCHED, visibility
from fluxshard.demo.scenes import random_scene

FOLDER = Path(__file__).parent


def masks(criterion: str) -> np.ndarray:
    """Visibility [2, h, w] of a small seeded scene whose flow is smoothed, as an estimator's is."""
    scene = random_scene(7, (80, 112), speed=6)
    exact = np.stack([scene.flow(*way) for way in ((0, 1), (1, 0))])
    flows = F.avg_pool2d(torch.from_numpy(exact), 5, 1, 2, count_include_pad=False)
    if criterion == MATCHED:
        return matched_visibility(torch.from_numpy(scene.clip([0.0, 1.0])), flows).numpy()
    return visibility(flows, flows.flip(0), criterion).numpy()


def golden_file(criterion: str) -> Path:
    return FOLDER / f"{criterion}.npz"


def main() -> None:
    for criterion in CRITERIA:
        if not golden_file(criterion).exists():
            np.savez_compressed(golden_file(criterion), masks=np.packbits(masks(criterion)))


if __name__ == "__main__":
    main()
