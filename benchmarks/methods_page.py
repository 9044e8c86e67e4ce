"""The results page of `methods.py`: figures and tables of docs/results.md.

python benchmarks/methods_page.py --collect FOLDER   # what runs came to, as JSON
python benchmarks/methods_page.py --real FILE        # and those of methods_real.py --json FILE
python benchmarks/methods_page.py                    # the page, of that JSON alone
"""

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flow_accuracy import machine
from matplotlib.figure import Figure
from methods import ARMS, BASE, BESIDE, folder_of
from methods_real import tables
from methods_table import Table, cells, least_lines, lines

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE, RESULTS, PICTURES = DOCS / "results.md", DOCS / "results.json", DOCS / "results"
LEAST_SEEDS = 3
SHOWN = (
    "baseline",
    "+ frame 2x1",
    "pyramid",
    "two given",
    "two given, flowloss 1 psi 3",
)  # sampled clips of


def collect(out: Path, steps: int) -> dict[str, Any]:
    """What the runs of a folder came to, arm by arm, seed by seed; arms of few seeds are left."""
    found = [json.loads(path.read_text()) for path in out.glob("runs/*/figures.json")]
    found = [run for run in found if run["steps"] == steps]
    order, seeds = list(ARMS), Counter(run["arm"] for run in found)
    runs = sorted(
        (run for run in found if seeds[run["arm"]] >= LEAST_SEEDS),
        key=lambda run: (order.index(run["arm"]), run["seed"]),
    )
    return {"machine": machine(), "steps": steps, "batch": BASE.stream.batch, "runs": runs}


def strips(out: Path, steps: int, seed: int) -> Figure:
    """Sampled clips of some arms, a row each; free ones, and continued ones."""
    rows: list[tuple[str, np.ndarray]] = []
    for arm in SHOWN:
        path = folder_of(out, arm, seed, steps) / "samples.npz"
        if path.exists():
            clips = np.load(path)
            rows += [(f"{arm}: {name}", clips[name][n]) for name in clips for n in (0, 1)]
    figure = Figure(figsize=(11, 0.75 * len(rows)), layout="constrained")
    for axes, (name, clip) in zip(
        figure.subplots(len(rows), squeeze=False)[:, 0], rows, strict=True
    ):
        axes.imshow(np.concatenate(list(clip.transpose(0, 2, 3, 1)), axis=1))
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        axes.set_xticks([])
        axes.set_yticks([])
    return figure


def effects(table: Table) -> Figure:
    """Each arm's effect on four figures, with two standard errors."""
    names = ("speed", "accel", "whole", "drift")
    arms = [arm for arm, row in table.items() if any(c.effects for c in row.values())]
    figure = Figure(figsize=(11, 0.3 * len(arms) + 1.2), layout="constrained")
    for number, (axes, name) in enumerate(zip(figure.subplots(1, len(names)), names, strict=True)):
        for place, arm in enumerate(arms):
            cell = table[arm][name]
            if len(cell.effects) > 1:
                color = "tab:red" if cell.seen else "0.5"
                axes.errorbar(cell.effect, -place, xerr=2 * cell.error, fmt="o", color=color, ms=4)
        axes.axvline(0, color="0.7", lw=0.8)
        axes.set_title(name, fontsize=9)
        axes.set_ylim(0.5 - len(arms), 0.5)
        axes.tick_params(labelsize=7)
        axes.set_yticks([-place for place in range(len(arms))], arms if number == 0 else [])
    return figure


def curves(runs: Sequence[dict[str, Any]]) -> Figure:
    """How far off a known motion is, as training goes on; a thin line for each seed."""
    figure = Figure(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    arms = dict.fromkeys(run["arm"] for run in runs if run["curve"])
    for number, arm in enumerate(arms):
        mine = [
            run["curve"] | {str(run["steps"]): run["foreseen"]} for run in runs if run["arm"] == arm
        ]
        steps = [int(step) for step in mine[0]]
        values = np.array([list(curve.values()) for curve in mine])
        axes.plot(steps, values.T, color=f"C{number}", lw=0.5, alpha=0.6)
        axes.plot(steps, values.mean(axis=0), color=f"C{number}", lw=2, label=arm)
    axes.axhline(1, color="0.6", ls=":", lw=1)
    axes.set(xscale="log", xlabel="steps", ylabel="foreseen (1: as if it stood still)")
    axes.set_xticks(steps, [str(step) for step in steps])
    axes.minorticks_off()
    axes.legend(fontsize=8)
    return figure


def filled(page: str, blocks: dict[str, Sequence[str]]) -> str:
    """The page with the tables between its marks."""
    for name, rows in blocks.items():
        start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        head, _, rest = page.partition(start)
        _, _, tail = rest.partition(end)
        page = head + start + "\n".join(rows) + "\n" + end + tail
    return page


def blocks(results: dict[str, Any]) -> dict[str, Sequence[str]]:
    """The tables of the page."""
    table = cells(results["runs"], BESIDE)
    found = {"figures": lines(table), "effects": least_lines(table)}
    curved = [run for run in results["runs"] if run["curve"]]
    if curved:
        early = [{"arm": run["arm"], "seed": run["seed"], **run["curve"]} for run in curved]
        found["early"] = lines(cells(early, BESIDE, [*curved[0]["curve"]]))
    if "real" in results:
        found["real"] = tables(results["real"])
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", help="not used; every script here takes it")
    parser.add_argument("--collect", type=Path, help="folder of methods.py")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0, help="whose samples are shown")
    parser.add_argument("--real", type=Path, help="JSON of methods_real.py")
    asked = parser.parse_args(arguments)
    PICTURES.mkdir(exist_ok=True)
    results = json.loads(RESULTS.read_text())
    if asked.collect:
        results |= collect(asked.collect, asked.steps)
        strips(asked.collect, asked.steps, asked.seed).savefig(PICTURES / "samples.jpg", dpi=80)
    if asked.real:
        results["real"] = json.loads(asked.real.read_text())
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    table = cells(results["runs"], BESIDE)
    effects(table).savefig(PICTURES / "effects.png", dpi=110)
    if any(run["curve"] for run in results["runs"]):
        curves(results["runs"]).savefig(PICTURES / "curves.png", dpi=110)
    PAGE.write_text(filled(PAGE.read_text(), blocks(results)))


if __name__ == "__main__":
    main()
