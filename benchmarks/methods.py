"""What each method brings, on a world of which everything is known.

    python benchmarks/methods.py --out FOLDER [--quick] [--arms baseline,flowloss] [--seeds 0,1,2]

The world is `sprites.py`'s: discs that move straight and are reflected, 32x32 pixels, 16 frames.
All arms of a seed have one order of clips, one initialisation and one noise. A run that is done is
not done again, an interrupted one goes on, so the table can be filled in pieces; it tells means
over seeds, their standard deviation, and the smallest difference that so many could have shown.
`--quick` trains 500 steps on one seed.

For each arm:
    val             loss at fixed noise levels, of clips never trained on
    speed, accel    Wasserstein distance of the sampled clips' speeds (accelerations) to the true
                    clips', pixels a frame
    motion          mean speed of samples over that of true clips: freezing would be 0
    whole           share of frames whose disc has its mass within a quarter
    drift           mean distance of the disc from where two given frames say it will be, over that
                    of a disc that stands still; 1 and above is of no use
    flicker         temporal variance of samples over that of true clips
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import sprites
import torch
from flow_accuracy import machine
from scipy.stats import t as student
from scipy.stats import wasserstein_distance
from torch import Tensor

from trainer import (
    FlowLossConfig,
    FluxFlowConfig,
    ModelConfig,
    OptimConfig,
    ProcessConfig,
    PyramidConfig,
    SmoothnessConfig,
    StreamConfig,
    TrainConfig,
    WarpingConfig,
    build_process,
    train,
)
from trainer.config.validation import ValidationConfig
from trainer.run.evaluate import evaluate
from trainer.run.restore import Trained, load_trained
from trainer.sample.loop import Sampler
from trainer.sample.request import Request, fulfil, plan

Arm = Callable[[TrainConfig], TrainConfig]
JUDGED, STEPS, SIDE = 64, 20, sprites.SIDE
BASE = TrainConfig(
    device="cpu",
    log_steps=50,
    checkpoint_clips=4000,
    keep_checkpoints=1,
    stream=StreamConfig(frames=sprites.FRAMES, batch=8, threads=1, layer="variational"),
    fluxflow=FluxFlowConfig(mode="off"),
    pyramid=PyramidConfig(enabled=False),
    flow_loss=FlowLossConfig(weight=0.0),
    # Not flow matching: its network says the noise of 192 numbers a patch, through 96 channels.
    process=ProcessConfig(kind="edm", per_slot=0.2),
    model=ModelConfig(dim=96, depth=4, heads=4, patch=8),
    optim=OptimConfig(learning_rate=2e-3, warmup_clips=400, ema_clips=800),
    validation=ValidationConfig(share=0.1, clips=JUDGED, every_clips=10**9),
)


def flowloss(weight: float, psi: float = 0.5) -> Arm:
    """Motion supervised by stored flow."""
    return lambda c: replace(c, flow_loss=FlowLossConfig(weight=weight, psi=psi))


def fluxflow(**settings: Any) -> Arm:
    """A last quarter of the run with shuffled clips, as the paper does; none: without."""
    return lambda c: replace(c, fluxflow=FluxFlowConfig(**settings))


def pyramid(**settings: Any) -> Arm:
    """Three stages under the one law of levels."""
    return lambda c: replace(c, pyramid=PyramidConfig(**settings))


def process(**settings: Any) -> Arm:
    """Another share of clips with a level for each slot."""
    return lambda c: replace(c, process=replace(c.process, **settings))


ARMS: dict[str, Arm] = {
    "baseline": lambda c: c,
    "flowloss 0.02": flowloss(0.02),
    "flowloss 0.1": flowloss(0.1),
    "flowloss 0.1 psi 1": flowloss(0.1, 1.0),
    "fvdm p=0": process(per_slot=0.0),
    "fvdm p=1": process(per_slot=1.0),
    "two given": process(per_slot=0.0, given=2),
    "pyramid": pyramid(),
    "pyramid equal odds": pyramid(odds="equal"),
    "warping 1": lambda c: replace(c, warping=WarpingConfig(weight=1.0)),
    "smoothness 0.1": lambda c: replace(c, smoothness=SmoothnessConfig(weight=0.1)),
    "window 2": lambda c: replace(c, model=replace(c.model, window=2)),
    "all": lambda c: replace(
        c, pyramid=PyramidConfig(), flow_loss=FlowLossConfig(), warping=WarpingConfig(weight=1.0)
    ),
}
TUNED: dict[str, Arm] = {
    "+ original": fluxflow(mode="off"),
    "+ frame 2x1": fluxflow(mode="frame", count=2),
    "+ block 2x2": fluxflow(mode="block", block=2, count=2),
    "+ derangement": fluxflow(mode="frame", count=2, derangement=True),
}
FIGURES = ("val", "speed", "accel", "motion", "whole", "drift", "flicker")


def built(out: Path, videos: int, scenes: int) -> str:
    """The dataset, made once."""
    data = out / "dataset"
    if not (data / "manifest.json").exists():
        sprites.write(out / "videos", videos, scenes)
        command = [sys.executable, "-m", "fluxshard", "build", str(out / "videos"), str(data)]
        size = ("--size", f"{SIDE}x{SIDE}", "--frames", str(sprites.FRAMES), "--crf", "4")
        flow = ("--flow", "variational", "--levels", "1,2", "--shots", "none")
        subprocess.run([*command, *size, *flow, "--max-repeated", "1"], check=True)
    return str(data)


def run_arm(out: Path, data: str, arm: str, seed: int, steps: int) -> dict[str, float]:
    """Train an arm, or read what it came to."""
    folder = out / "runs" / f"{arm.replace(' ', '_')}-{steps}-{seed}"
    result = folder / "figures.json"
    if result.exists():
        found: dict[str, float] = json.loads(result.read_text())
        return found
    config = replace(BASE, seed=seed, clips=steps * BASE.stream.batch)
    if arm in TUNED:
        base = out / "runs" / f"baseline-{steps}-{seed}"
        config = replace(config, clips=config.clips // 4, init_from=str(base))
        config = TUNED[arm](config)
    else:
        config = ARMS[arm](config)
    train(data, folder, config)
    found = judge(folder, config)
    result.write_text(json.dumps(found, indent=1))
    return found


def judge(folder: Path, config: TrainConfig) -> dict[str, float]:
    """The figures of a trained run."""
    trained = load_trained(folder, config, torch.device("cpu"))
    truth = truths()
    free, led = sampled(trained, config, {}), sampled(trained, config, {0: truth, 1: truth})
    made, true, going = (sprites.track(clips) for clips in (free, truth / 255, led))
    speeds = [np.linalg.norm(t.velocity, axis=2).ravel() for t in (made, true)]
    accelerations = [np.linalg.norm(t.acceleration, axis=2).ravel() for t in (made, true)]
    seen = [values[np.isfinite(values)] for values in (speeds[0], accelerations[0])]
    mass = np.median(true.mass)
    off = np.linalg.norm(going.centre - true.centre, axis=2)[:, 2:]
    still = np.linalg.norm(true.centre - true.centre[:, 1:2], axis=2)[:, 2:]
    flickers = [clips.var(dim=1, unbiased=False).mean().item() for clips in (free, truth / 255)]
    return {
        "val": evaluate(folder)["loss"],
        "speed": distance(seen[0], speeds[1]),
        "accel": distance(seen[1], accelerations[1]),
        "motion": float(seen[0].mean() / speeds[1].mean()) if len(seen[0]) else math.nan,
        "whole": float(np.mean(np.abs(made.mass / mass - 1) < 0.25)),
        "drift": float(np.nanmean(off) / still.mean()),
        "flicker": flickers[0] / flickers[1],
    }


def distance(found: np.ndarray, true: np.ndarray) -> float:
    """Wasserstein's; NaN where nothing was found."""
    return float(wasserstein_distance(found, true)) if len(found) else math.nan


def truths() -> Tensor:
    """Clips that no run has seen, uint8 [b, t, 3, h, w]."""
    scenes = np.stack([sprites.scene(10**9 + number) for number in range(JUDGED)])
    return torch.from_numpy(scenes).permute(0, 1, 4, 2, 3).contiguous()


def sampled(trained: Trained, config: TrainConfig, given: dict[int, Tensor]) -> Tensor:
    """Clips of a model, in [0, 1]; each begins with its own given frames."""
    network = trained.network
    time = torch.arange(sprites.FRAMES, dtype=torch.float32)
    sampler = Sampler(network=network, process=build_process(config.process), time=time)
    request = Request(frames=sprites.FRAMES, steps=STEPS, overlap=1, seed=0)
    usable = {} if config.pyramid.enabled else given
    schedules = plan(config, trained.codec.rule, request, usable)
    clips = []
    for number in range(JUDGED):
        known = {frame: pictures[number, frame] for frame, pictures in usable.items()}
        clips.append(
            fulfil(sampler, trained.codec, schedules, request, [number], known, (SIDE, SIDE))
        )
    return torch.cat(clips).float() / 255


def table(results: dict[str, list[dict[str, float]]]) -> list[str]:
    """A line for each arm: mean and deviation over seeds; and what could have been seen."""
    lines = [f"{'arm':22}" + "".join(f"{name:>16}" for name in FIGURES)]
    for arm, found in results.items():
        cells = []
        for name in FIGURES:
            values = [figures[name] for figures in found]
            spread = statistics.stdev(values) if len(values) > 1 else math.nan
            cells.append(f"{statistics.fmean(values):9.3f} ±{spread:5.3f}")
        lines.append(f"{arm:22}" + "".join(f"{cell:>16}" for cell in cells))
    base = results.get("baseline", [])
    if len(base) > 1:
        # Of two means of n seeds: what a t-test at 5 % finds with a power of 80 %.
        n = len(base)
        factor = (student.ppf(0.975, 2 * n - 2) + student.ppf(0.8, 2 * n - 2)) * math.sqrt(2 / n)
        least = [factor * statistics.stdev([f[name] for f in base]) for name in FIGURES]
        lines.append(f"{'least seen':22}" + "".join(f"{value:16.3f}" for value in least))
    return lines


def main(arguments: Sequence[str] | None = None) -> dict[str, list[dict[str, float]]]:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="not used; every script here takes it")
    parser.add_argument("--out", type=Path, default=Path("methods"))
    parser.add_argument("--arms", default=",".join([*ARMS, *TUNED]))
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="one seed, 500 steps")
    asked = parser.parse_args(arguments)
    steps, seeds = (
        (500, [0]) if asked.quick else (asked.steps, list(map(int, asked.seeds.split(","))))
    )
    torch.set_num_threads(1)
    data = built(asked.out, 10 if asked.quick else 40, 40)
    results: dict[str, list[dict[str, float]]] = {}
    for seed in seeds:
        for arm in asked.arms.split(","):
            results.setdefault(arm, []).append(run_arm(asked.out, data, arm, seed, steps))
            print(f"seed {seed}, {arm}: {results[arm][-1]}", flush=True)
    print(machine(), f"; {steps} steps of {BASE.stream.batch} clips, seeds {seeds}")
    print("\n".join(table(results)))
    return results


if __name__ == "__main__":
    main()
