"""What the methods bring on real clips: too few to show much, but what they are for.

    python benchmarks/methods_real.py --data VIDEOS --out FOLDER [--seeds 0,1,2,...] [--clips 800]

Each method trains the preset `tiny` from one initialisation and one order of clips a seed, and is
judged as `fluxshard eval` does by videos that no arm saw: the loss; the error of the motion that is
restored at a middle level, over that of a clip that stands still; and of sampled clips beside real
ones the flicker, the warping error and how much moves.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from flow_accuracy import machine
from methods_table import cells, least_lines, lines

from fluxshard.commands.runs.judging import Judging, judge_motion
from trainer import StreamConfig, TrainConfig, train
from trainer.config.validation import ValidationConfig
from trainer.presets import METHODS, PRESETS
from trainer.run.evaluate import evaluate, open_kept

FIGURES = ("val", "restored", "flicker", "warping", "motion")
JUDGING = Judging(samples=8, steps=16, estimator="dis", lpips=False, fvd_network="")


def built(data: Path, out: Path) -> str:
    """The dataset, made once."""
    made = out / "dataset"
    if not (made / "manifest.json").exists():
        command = [sys.executable, "-m", "fluxshard", "build", str(data), str(made)]
        options = ("--size", "96x64", "--frames", "16", "--flow", "variational")
        subprocess.run([*command, *options], check=True)
    return str(made)


def config_of(method: str, seed: int, clips: int) -> TrainConfig:
    """The preset with a method, at 8 frames and a quarter of the source videos kept."""
    config = METHODS[method](PRESETS["tiny"]())
    return replace(
        config,
        seed=seed,
        device="cpu",
        clips=clips,
        log_steps=50,
        checkpoint_clips=10**9,
        stream=StreamConfig(frames=8, batch=4, threads=1, layer="variational"),
        validation=ValidationConfig(share=0.25, clips=32, levels=6, every_clips=10**9),
    )


def run_method(out: Path, data: str, method: str, seed: int, clips: int) -> dict[str, Any]:
    """Train and judge, or read what it came to."""
    folder = out / "runs" / f"{method}-{clips}-{seed}"
    result = folder / "figures.json"
    if result.exists():
        done: dict[str, Any] = json.loads(result.read_text())
        return done
    train(data, folder, config_of(method, seed, clips))
    kept = open_kept(folder)
    motion = judge_motion(kept, JUDGING)
    figures, restored = motion["figures"], list(motion["by_level"].values())
    found: dict[str, Any] = {
        "arm": method,
        "seed": seed,
        "steps": clips // kept.config.stream.batch,
        "flicker": figures["flicker"] / figures["real_flicker"],
        "warping": figures["warping_error"] / figures["real_warping_error"],
        "motion": figures["motion_ratio"],
    }
    if not kept.config.pyramid.enabled:  # whose stages have tasks, and levels, of their own
        found |= {"val": evaluate(kept)["loss"], "restored": restored[len(restored) // 2]}
    result.write_text(json.dumps(found, indent=1))
    return found


def tables(results: Sequence[dict[str, Any]]) -> list[str]:
    """Figures of each method, and its effects."""
    table = cells(results, dict.fromkeys(METHODS, "baseline"), FIGURES)
    return [*lines(table), "", *least_lines(table)]


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of videos")
    parser.add_argument("--out", type=Path, default=Path("methods_real"))
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--seeds", default="0,1,2,3,4,5,6,7")
    parser.add_argument("--clips", type=int, default=800)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    torch.set_num_threads(1)
    data = built(asked.data, asked.out)
    results = []
    for seed in map(int, asked.seeds.split(",")):
        for method in asked.methods.split(","):
            results.append(run_method(asked.out, data, method, seed, asked.clips))
            print(results[-1], flush=True)
    print(machine(), f"; {asked.clips} clips a run")
    print("\n".join(tables(results)))
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=1) + "\n")
    return results


if __name__ == "__main__":
    main()
