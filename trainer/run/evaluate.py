"""A run that is judged after it was trained."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from shards import Dataset, UsageError
from trainer.run.checkpoint import latest
from trainer.run.ingredients import choose_source, in_precision
from trainer.run.log import Record
from trainer.run.ranks import place
from trainer.run.restore import load_trained, read_run
from trainer.run.validation import Validation, split


def evaluate(
    run: Path,
    *,
    data: str = "",
    weights: Literal["average", "last"] = "average",
    all_clips: bool = False,
    clips: int = 0,
    levels: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> Record:
    """What `fluxshard eval` says, by name; its arguments are explained there.

    Raises:
        UsageError: `run` is no run, keeps no clips from training, or the data does not suit it.
    """
    facts = read_run(run)
    kept = facts.config.validation
    kept = replace(kept, clips=clips or kept.clips, levels=levels or kept.levels)
    config = replace(facts.config, device=device, parallel="auto", validation=kept)
    if kept.share == 0 and not all_clips:
        raise UsageError(
            f"{run} was trained on all clips (validation.share 0), so none are left to judge it "
            "by: train with --validation.share, or judge by all clips of some dataset with "
            "--all-clips"
        )
    ranks = place(config, {})
    trained = load_trained(run, config, ranks.device, average=weights == "average")
    source = choose_source(Dataset(data or facts.data), config)
    source = replace(source, layer=None, columns=trained.conditioner.columns)
    if not all_clips:
        _, source = split(source, config)
    validation = Validation(source, config, ranks, trained.codec, trained.conditioner)
    found = validation(in_precision(trained.network, config, ranks.device))
    checkpoint = latest(run)
    assert checkpoint is not None, "load_trained read it"
    return {
        "loss": found["val/loss"],
        "by_level": found["val/by_level"],
        "clips": validation.clips,
        "trained_on": f"{int(checkpoint.name)} clips",
        "weights": weights,
        "data": data or facts.data,
    }
