"""What each method brings, on a world of which everything is known.

    python benchmarks/methods.py --out FOLDER [--quick] [--arms "baseline;p=1"] [--seeds 0,1,2]
    python benchmarks/methods_page.py --collect FOLDER      # docs/results.md of what is done

The world is `sprites.py`'s: discs that move straight and are reflected, 32x32 pixels, 16 frames.
All arms of a seed have one order of clips, one initialisation and one noise, so an arm is compared
with its reference seed by seed. A run that is done is not done again and an interrupted one goes
on, so the table can be filled in pieces, and by several processes with seeds of their own.
`--quick` trains every arm for 150 steps on one seed, in 13 minutes. `methods_judge.py` says what is
judged.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import sprites
import torch
from flow_accuracy import machine
from methods_judge import Given, foreseen, judge
from methods_table import FIGURES, cells, lines

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
    train,
)
from trainer.config.validation import ValidationConfig
from trainer.sample.renoise import Renoise

Change = Callable[[TrainConfig], TrainConfig]
SCENES = (40, 40)  # videos, and clips of each
CURVE = (50, 100, 200, 400)  # steps where early gains are looked for, at a rate that stays
BASE = TrainConfig(
    device="cpu",
    log_steps=50,
    checkpoint_clips=10**9,
    keep_checkpoints=1,
    stream=StreamConfig(frames=sprites.FRAMES, batch=4, threads=1, layer="variational"),
    fluxflow=FluxFlowConfig(mode="off"),
    pyramid=PyramidConfig(enabled=False),
    flow_loss=FlowLossConfig(weight=0.0),
    # Motion is decided where noise is strong: more of the levels lie there than is usual.
    process=ProcessConfig(kind="edm", mean=1.0, std=1.6, per_slot=0.2),
    model=ModelConfig(family="sprite_net:SpriteNet"),
    precision="bf16",
    optim=OptimConfig(learning_rate=4e-3, warmup_clips=400, ema_clips=400),
    validation=ValidationConfig(share=0.1, clips=32, levels=6, every_clips=10**9),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """A training, or only another way to sample from one.

    Attributes:
        change: of the base's configuration.
        beside: the arm that it is compared with; it has the same seed.
        begins: the arm whose weights it begins with; "": from the initialisation.
        share: of the base's clips; 0 samples from the arm it begins with.
        renoise, given: how it is sampled from (`judge`).
        curve: whether early gains are looked for.
    """

    change: Change = lambda config: config
    beside: str = "baseline"
    begins: str = ""
    share: float = 1.0
    renoise: Renoise = "paired"
    given: Given = ""
    curve: bool = False


def changed(**parts: Any) -> Change:
    """Some parts of the configuration, others than the base's."""
    return lambda config: replace(config, **parts)


def process(**settings: Any) -> Change:
    """The base's process, but for some settings."""
    return lambda config: replace(config, process=replace(config.process, **settings))


def led(weight: float = 0.0, psi: float = 0.5) -> Arm:
    """Trained to go on from two frames; with motion supervised by stored flow.

    How they go on is decided where noise is strongest: most of the levels lie there, 5 % below a
    gate of 3 and 17 % below 10, and FlowLoss's weight falls with their square.
    """
    change = process(per_slot=0.0, given=2, mean=4.0, std=1.8)
    config = FlowLossConfig(weight=weight, psi=psi)
    return Arm(
        change=lambda c: replace(change(c), flow_loss=config),
        beside="two given",
        given="clamped",
        curve=True,
    )


def tuned(**settings: Any) -> Arm:
    """A quarter of the run more, with shuffled clips, as the paper does."""
    change = changed(fluxflow=FluxFlowConfig(**settings))
    return Arm(change=change, begins="baseline", share=0.25, beside="+ original")


def resampled(arm: str, **ways: Any) -> Arm:
    """An arm's model, sampled from otherwise."""
    return Arm(begins=arm, beside=arm, share=0, **ways)


EQUAL = PyramidConfig(odds="equal")
FASTER = {"equal": 1.6, "law": 2.0}  # times as many clips in the time of a full-rate run
ARMS: dict[str, Arm] = {
    "baseline": Arm(given="clamped"),
    "baseline, replaced": resampled("baseline", given="replaced"),
    "flowloss 0.02": Arm(change=changed(flow_loss=FlowLossConfig(weight=0.02))),
    "+ original": tuned(mode="off"),
    "+ frame 2x1": tuned(mode="frame", count=2),
    "+ block 2x2": tuned(mode="block", block=2, count=2),
    "+ derangement": tuned(mode="frame", count=2, derangement=True),
    "pyramid": Arm(change=changed(pyramid=EQUAL), share=FASTER["equal"]),
    "pyramid, aligned": Arm(
        change=lambda config: process(align=True)(replace(config, pyramid=EQUAL)),
        beside="pyramid",
        share=FASTER["equal"],
    ),
    "pyramid, one law": Arm(change=changed(pyramid=PyramidConfig()), share=FASTER["law"]),
    "pyramid, renoise none": resampled("pyramid", renoise="none"),
    "pyramid, renoise independent": resampled("pyramid", renoise="independent"),
    "p=0": Arm(change=process(per_slot=0.0), given="clamped"),
    "p=0, replaced": resampled("p=0", given="replaced"),
    "p=1": Arm(change=process(per_slot=1.0), given="clamped"),
    "warping 1": Arm(change=changed(warping=WarpingConfig(weight=1.0))),
    "smoothness 0.1": Arm(change=changed(smoothness=SmoothnessConfig(weight=0.1))),
    "all": Arm(
        change=changed(
            pyramid=EQUAL,
            flow_loss=FlowLossConfig(weight=0.02),
            warping=WarpingConfig(weight=1.0),
            fluxflow=FluxFlowConfig(mode="frame", count=2),
        )
    ),
    "two given": led(),
    "two given, flowloss 0.1 psi 3": led(0.1, 3.0),
    "two given, flowloss 1 psi 3": led(1.0, 3.0),
    "two given, flowloss 1 psi 10": led(1.0, 10.0),
}
BESIDE = {name: arm.beside for name, arm in ARMS.items()}


def built(out: Path, videos: int, scenes: int) -> str:
    """The dataset, made once."""
    data = out / "dataset"
    if not (data / "manifest.json").exists():
        sprites.write(out / "videos", videos, scenes)
        command = [sys.executable, "-m", "fluxshard", "build", str(out / "videos"), str(data)]
        size = ("--size", f"{sprites.SIDE}x{sprites.SIDE}", "--frames", str(sprites.FRAMES))
        flow = ("--flow", "variational", "--levels", "1,2", "--shots", "none")
        subprocess.run([*command, *size, *flow, "--crf", "4", "--max-repeated", "1"], check=True)
    return str(data)


def folder_of(out: Path, name: str, seed: int, steps: int) -> Path:
    """Of a run and of its figures."""
    return out / "runs" / f"{name.replace(' ', '_')}-{steps}-{seed}"


def run_arm(out: Path, data: str, name: str, seed: int, steps: int) -> dict[str, Any]:
    """Train an arm and judge it, or read what it came to."""
    folder, arm = folder_of(out, name, seed, steps), ARMS[name]
    result = folder / "figures.json"
    if result.exists():
        found: dict[str, Any] = json.loads(result.read_text())
        return found
    clips = steps * BASE.stream.batch
    config = arm.change(replace(BASE, seed=seed, clips=clips))
    trained, curve = folder, dict[str, float]()
    if arm.begins:
        run_arm(out, data, arm.begins, seed, steps)
        trained = folder_of(out, arm.begins, seed, steps)
    if not arm.share:
        config = ARMS[arm.begins].change(replace(BASE, seed=seed, clips=clips))
    else:
        start = str(trained) if arm.begins else ""
        config = replace(config, clips=round(arm.share * clips), init_from=start)
        for early in [step for step in CURVE if arm.curve and 2 * step <= steps]:
            early_config = replace(config, clips=early * BASE.stream.batch)
            train(data, folder, early_config)
            curve[str(early)] = foreseen(folder, early_config, average=False)
        config = replace(config, optim=replace(config.optim, decay_clips=config.clips // 2))
        train(data, folder, config)
        trained = folder
    figures, samples = judge(trained, config, renoise=arm.renoise, given=arm.given)
    found = {"arm": name, "seed": seed, "steps": steps, **figures, "curve": curve}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "samples.npz", **{k: v[:4].numpy() for k, v in samples.items()})
    result.write_text(json.dumps(found, indent=1))
    return found


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="not used; every script here takes it")
    parser.add_argument("--out", type=Path, default=Path("methods"))
    parser.add_argument("--arms", default=";".join(ARMS), help="separated by ;")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--quick", action="store_true", help="one seed, 150 steps")
    asked = parser.parse_args(arguments)
    seeds = [int(seed) for seed in asked.seeds.split(",")]
    steps = asked.steps
    if asked.quick:
        steps, seeds = 150, [0]
    torch.set_num_threads(1)
    data = built(asked.out, *SCENES)
    results = []
    for seed in seeds:
        for arm in asked.arms.split(";"):
            results.append(run_arm(asked.out, data, arm, seed, steps))
            told = {name: round(results[-1][name], 3) for name in FIGURES if name in results[-1]}
            print(f"seed {seed}, {arm}: {told}", flush=True)
    print(machine(), f"; {steps} steps of {BASE.stream.batch} clips, seeds {seeds}")
    print("\n".join(lines(cells(results, BESIDE))))
    return results


if __name__ == "__main__":
    main()
