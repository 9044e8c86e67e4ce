"""Run the `dot` estimator on a real checkout of its code, with random weights, on the CPU.

    git clone https://github.com/16lemoing/dot DIR
    git -C DIR checkout 8c6ef1e1521eff9df8c7030f10adc57a4cddee13
    pip install torchvision timm einops einshape scipy tqdm
    python tests/manual/run_dot.py DIR [--tracker tapir]

Random weights say nothing about accuracy. The run shows that checkout, torch hub entry point,
weights files, tracker, refiner, determinism and gradient work together.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch

from flow_cache import estimators
from flow_cache.estimators.dot import estimator as dot
from flow_cache.estimators.network import import_torchvision
from flow_cache.estimators.weights import hub_file
from fluxshard.demo.scenes import random_scene


def save_random_weights(checkout: Path, tracker: str) -> None:
    """Where torch hub looks for the published ones."""
    import_torchvision()
    torch.manual_seed(0)
    none = (("tracker", None), ("estimator", None), ("refiner", None))
    model = dot._build(str(checkout), (64, 64), dot.TRACKERS[tracker][0], none)
    parts = {
        dot.TRACKERS[tracker][1]: model.point_tracker.model,
        "cvo_raft_patch_8.pth": model.point_tracker.optical_flow_estimator.model,
        "movi_f_raft_patch_4_alpha.pth": model.optical_flow_refiner.model,
    }
    for name, part in parts.items():
        file = hub_file(dot.ZOO + name)
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(part.state_dict(), file)
        print(f"{name}: {sum(p.numel() for p in part.parameters()) / 1e6:.2f} M parameters")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("--tracker", choices=dot.TRACKERS, default="tapir")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"TORCH_HOME": home, "FLUXSHARD_DOT": str(arguments.checkout.resolve())}
        save_random_weights(arguments.checkout.resolve(), arguments.tracker)
        run(estimators.load_estimator("dot", tracker=arguments.tracker, tracks=64))


def run(estimator: estimators.FlowEstimator) -> None:
    print(f"{estimator.name} {estimator.revision} {estimator.params}")
    frames = torch.from_numpy(random_scene(0, (60, 100)).clip([0.0, 1.0, 2.0, 3.0]))
    pairs = [(0, 1), (1, 0), (0, 3), (2, 2)]
    start = time.perf_counter()
    flow, visible = estimator.clip(frames, pairs)
    seconds = time.perf_counter() - start
    assert visible is not None  # it has visibility of its own
    again, _ = estimator.clip(frames, pairs)
    print(f"clip: flow {tuple(flow.shape)}, visible {visible.float().mean():.3f}, {seconds:.1f} s")
    print(f"same flow again: {torch.equal(flow, again)}; finite: {flow.isfinite().all()}")
    print(f"same frame: flow {flow[3].abs().max():.1f}, visible {visible[3].float().mean():.1f}")
    first, second = (frames[i : i + 1].float() / 255 for i in (0, 1))
    estimator.pair(first.requires_grad_(), second).square().mean().backward()
    assert first.grad is not None
    print(f"pair: gradient of the first frame, largest {first.grad.abs().max():.2e}")


if __name__ == "__main__":
    main()
