"""Writes the golden flow fields. Files that exist are left alone: they must decode for ever.

Fields of the first layout have plain names, those of the second begin with `scales_`.

Run from the repository root: python -m tests.golden.flow.generate
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from flow_cache.coding.codec import encode_field
from fluxshard.demo.scenes import random_scene

FOLDER = Path(__file__).parent


def cases() -> Iterator[tuple[str, np.ndarray, np.ndarray, float]]:
    """Name, flow, visibility and maximum error of every golden field."""
    scene = random_scene(7, (32, 48))
    yield "scene", scene.flow(0, 2), scene.visible(0, 2), 1 / 32
    yield "scene_coarse", scene.flow(3, 1), scene.visible(3, 1), 0.3
    rng = np.random.default_rng(7)
    jumps = rng.uniform(-900, 900, (2, 7, 5)).astype(np.float32)
    yield "jumps_odd_size", jumps, rng.random((7, 5)) < 0.5, 1 / 32
    beyond = np.full((2, 3, 6), 3000, np.float32)
    beyond[1, ::2] = -3000
    beyond[0, 1] = 2047.9
    yield "saturated", beyond, np.zeros((3, 6), bool), 1 / 32
    yield "one_pixel", np.array([[[0.4]], [[-7.2]]], np.float32), np.ones((1, 1), bool), 1 / 64
    yield "still", np.zeros((2, 10, 9), np.float32), np.ones((10, 9), bool), 1 / 32
    noise = rng.normal(0, 0.4, (2, 41, 22)).astype(np.float32)
    yield "default_bound", noise, rng.random((41, 22)) < 0.9, 1 / 2


def main() -> None:
    for number, (name, flow, visible, max_error) in enumerate(cases()):
        blob, truth = FOLDER / f"scales_{name}.flow", FOLDER / f"scales_{name}.npz"
        if blob.exists():
            continue
        data = encode_field(
            flow,
            visible,
            pair=(number, number + 2),
            max_error_px=max_error,
            spec_digest="5c" * 32,
            round_trip_px=None if number % 2 else number / 8,
        )
        blob.write_bytes(data)
        np.savez_compressed(truth, flow=flow, visible=visible, max_error_px=max_error)


if __name__ == "__main__":
    main()
