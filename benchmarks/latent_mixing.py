"""What FluxFlow's shuffles make of the latents of a codec that compresses time. Arithmetic alone.

    python benchmarks/latent_mixing.py [--draws 4000] [--json rows.json]

A latent is mixed if the frames that share it do not follow each other in the source at the stage's
stride. Of a mixed latent the span is told, in stored frames: what the codec is to put into one
place. Shuffled at the full rate and then subsampled, or subsampled and then shuffled.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from trainer import FluxFlowConfig, FrameRule, TemporalPlan, draw_shuffle, reorder, window
from trainer.temporal.plan import subsample

CODECS = {
    "Wan, 17 frames": (FrameRule(factor=4, step=4), 17),
    "LTX, 33 frames": (FrameRule(factor=8, step=8), 33),
}
STRIDES = (1, 2, 4)


def shuffles(factor: int) -> dict[str, FluxFlowConfig]:
    """The settings compared: two units of each kind."""
    block = FluxFlowConfig(mode="block", block=factor, count=2)
    return {
        "frames": FluxFlowConfig(count=2),
        f"blocks of {factor // 2}": replace(block, block=factor // 2),
        f"blocks of {factor}, remainder at the tail": block,
        f"blocks of {factor}, remainder at the head": replace(block, remainder="head"),
    }


def show(config: FluxFlowConfig, frames: int, stride: int, seed: int) -> TemporalPlan:
    """A shuffled clip of one stage."""
    rng, whole = np.random.default_rng(seed), window(0, frames)
    stage = STRIDES.index(stride) + 1
    if config.before_stride:
        return subsample(reorder(whole, draw_shuffle(rng, config, frames)), stride, stage)
    return reorder(subsample(whole, stride, stage), draw_shuffle(rng, config, frames, stride))


def spans(shown: TemporalPlan, rule: FrameRule) -> list[int]:
    """Stored frames that each mixed latent of a clip spans."""
    groups = np.split(shown.src_index, rule.first_frames(len(shown))[1:])
    mixed = [group for group in groups if (np.diff(group) != shown.stride).any()]
    return [int(np.ptp(group)) + 1 for group in mixed]


def measure(draws: int) -> list[dict[str, float | str]]:
    """A row for each codec, shuffle, order and stage that the codec takes."""
    rows: list[dict[str, float | str]] = []
    for codec, (rule, frames) in CODECS.items():
        for name, config in shuffles(rule.factor).items():
            for before in (True, False):
                setting = replace(config, before_stride=before)
                for stride in STRIDES:
                    clips = [show(setting, frames, stride, seed) for seed in range(draws)]
                    found = [span for clip in clips for span in spans(clip, rule)]
                    rows.append(
                        {
                            "codec": codec,
                            "shuffle": name,
                            "order": "then stride" if before else "after stride",
                            "stride": stride,
                            "moved": float(np.mean([clip.moved for clip in clips])),
                            "mixed": len(found) / draws / rule.latents(len(clips[0])),
                            "span": float(np.mean(found)) if found else 0.0,
                        }
                    )
    return rows


def main(arguments: Sequence[str] | None = None) -> list[dict[str, float | str]]:
    """Draw, print the table, and write it where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=4000)
    parser.add_argument("--json", type=Path, help="also write the rows")
    options = parser.parse_args(arguments)
    rows = measure(options.draws)
    print(f"{options.draws} draws of each, numpy {np.__version__}; no machine enters\n")
    print(f"{'codec':15} {'shuffle':35} {'order':13} stride  moved  mixed  span of a mixed latent")
    for row in rows:
        print(
            f"{row['codec']:15} {row['shuffle']:35} {row['order']:13} {row['stride']:6}"
            f"  {row['moved']:5.1%}  {row['mixed']:5.1%}  {row['span']:5.1f} frames"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return rows


if __name__ == "__main__":
    main()
