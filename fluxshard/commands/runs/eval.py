"""`fluxshard eval`."""

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg


def eval(
    run: Annotated[Positional[str], arg(metavar="RUN")],
    /,
    *,
    data: str = "",
    weights: Literal["average", "last"] = "average",
    all_clips: bool = False,
    clips: int = 0,
    levels: int = 0,
    samples: int = 8,
    steps: int = 30,
    estimator: str = "",
    lpips: bool = False,
    fvd_network: str = "",
    device: Literal["auto", "cpu", "cuda"] = "auto",
    as_json: Annotated[bool, arg(name="json")] = False,
) -> int:
    """Judge a training run by clips kept from it: loss by noise level, and motion.

    Args:
        run: folder of the run.
        data: folder or URL of a dataset; by default the one that the run trained on.
        weights: the average of the run's weights, or those of its last step.
        all_clips: judge by all clips of the dataset, also those that the run was trained on.
        clips: judge by this many at most; 0: as many as the run does while it trains.
        levels: noise levels to judge at; 0: as many as the run does.
        samples: clips to sample, by number, whose figures stand beside those of the kept clips; so
            many of these are restored at each noise level, for the error of their motion; 0: the
            loss alone.
        steps: of a sampled clip, each of the second order.
        estimator: of the flow that figures are of, another than the run learned from; by default
            dis, or variational where that was dis.
        lpips: figures by LPIPS as well; needs fluxshard[lpips].
        fvd_network: a TorchScript file, or hub:OWNER/REPO:ENTRY, for FVD as well; give twice as
            many clips as samples at least.
        device: where the model runs; auto: on a GPU if there is one.
        as_json: print JSON to standard output instead.
    """
    from fluxshard.commands.runs.judging import Judging, judge_motion, motion_rows
    from fluxshard.terminal import print_facts, print_table, progress_bars, write
    from trainer.run.evaluate import evaluate, open_kept

    wanted = Judging(
        samples=samples, steps=steps, estimator=estimator, lpips=lpips, fvd_network=fvd_network
    )
    kept = open_kept(
        Path(run),
        data=data,
        weights=weights,
        all_clips=all_clips,
        clips=clips,
        levels=levels,
        device=device,
    )
    found = evaluate(kept)
    if samples:
        with progress_bars() as show:
            found["motion"] = judge_motion(kept, wanted, partial(show, "sampling"))
    if as_json:
        write(json.dumps(found, indent=1))
        return 0
    by_level, motion = found.pop("by_level"), found.pop("motion", None)
    rows = [(f"loss at level {at}", f"{loss:.5g}", "", "") for at, loss in by_level.items()]
    print_table(("", "run", "kept clips", ""), rows + (motion_rows(motion) if motion else []))
    named = ("estimator", "fvd_network")
    print_facts(found | {name: motion[name] for name in named if motion and name in motion})
    return 0
