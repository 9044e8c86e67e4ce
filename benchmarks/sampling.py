"""What a perfect network would sample: how far the law of the clips is from the true one.

    python benchmarks/sampling.py [--json rows.json]

Clips of a known normal law have an exact denoiser, which is linear; the sampler on the unit vectors
of its noise then gives the covariance of what it samples, without a draw. Listed is its relative
error (Frobenius) at the clean end of each stage of the temporal pyramid, coarsest first, by the
steps of all stages together, the solver, and what is added between stages.
"""

import argparse
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from gaussian_clips import errors_at_ends, moving, perfect_sampler, smooth

from trainer.config import ProcessConfig, PyramidConfig

SLOTS = 16
PROCESSES = {
    "edm": ProcessConfig(),
    "flow": ProcessConfig(kind="flow"),
    "ddim": ProcessConfig(kind="ddim"),
}
LAWS = {"smooth": smooth(SLOTS) / 4, "moving": moving(SLOTS) / 4}
KINDS = [(60, True, "paired"), (60, True, "none"), (60, True, "independent")]
KINDS += [(30, True, "paired"), (30, False, "paired"), (60, False, "paired")]
KINDS += [(120, False, "paired"), (240, False, "paired")]


def rows_of(law: str) -> list[dict[str, Any]]:
    """A row for each process and kind of sampling."""
    rows = []
    for name, process in PROCESSES.items():
        for steps, heun, renoise in KINDS:
            asked = perfect_sampler(LAWS[law], process, PyramidConfig(), heun=heun, renoise=renoise)
            errors = errors_at_ends(asked, process, PyramidConfig(), steps)
            solver = "heun" if heun else "euler"
            facts = {"process": name, "law": law, "steps": steps, "solver": solver}
            rows.append({**facts, "renoise": renoise, "errors": errors})
    return rows


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the rows")
    options = parser.parse_args(arguments)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, float64")
    print("| law | process | solver | steps | between stages | stage 3 | stage 2 | stage 1 |")
    print("|---|---|---|---|---|---|---|---|")
    rows = [row for law in LAWS for row in rows_of(law)]
    for row in rows:
        names = (row["law"], row["process"], row["solver"], row["steps"], row["renoise"])
        print("|", " | ".join(map(str, (*names, *(f"{e:.4f}" for e in row["errors"])))), "|")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    return rows


if __name__ == "__main__":
    main()
