"""`fluxshard eval`."""

import json
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
    device: Literal["auto", "cpu", "cuda"] = "auto",
    as_json: Annotated[bool, arg(name="json")] = False,
) -> int:
    """Judge a training run: the loss, at fixed noise levels, of clips kept from it.

    Args:
        run: folder of the run.
        data: folder or URL of a dataset; by default the one that the run trained on.
        weights: the average of the run's weights, or those of its last step.
        all_clips: judge all clips of the dataset, also those that the run was trained on.
        clips: judge this many at most; 0: as many as the run does while it trains.
        levels: noise levels to judge at; 0: as many as the run does.
        device: where the model runs; auto: on a GPU if there is one.
        as_json: print JSON to standard output instead.
    """
    from fluxshard.terminal import print_facts, print_table, write
    from trainer.run.evaluate import evaluate

    found = evaluate(
        Path(run),
        data=data,
        weights=weights,
        all_clips=all_clips,
        clips=clips,
        levels=levels,
        device=device,
    )
    if as_json:
        write(json.dumps(found, indent=1))
        return 0
    by_level = found.pop("by_level")
    print_table(("noise level", "loss"), [(at, f"{loss:.5g}") for at, loss in by_level.items()])
    print_facts(found)
    return 0
