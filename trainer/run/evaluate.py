"""A run that is judged after it was trained: its loss, and the motion that it restores."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from flow_cache import FlowEstimator
from shards import Dataset, UsageError
from trainer.config import TrainConfig
from trainer.metrics.truth import motion_error, relative_error
from trainer.process.process import Network
from trainer.run.checkpoint import latest
from trainer.run.ingredients import choose_source, in_precision
from trainer.run.log import Record
from trainer.run.ranks import place
from trainer.run.restore import RunFacts, Trained, load_trained, read_run
from trainer.run.validation import Validation, fixed_levels, split
from trainer.stream.batch import Batch
from trainer.temporal.stages import Stage, stages

Weights = Literal["average", "last"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Kept:
    """A run, and the clips that it is judged by.

    Attributes:
        run: its folder.
        facts: of the run.
        config: of the training, on the device where it is judged.
        data: the dataset of the clips.
        trained: the model, with these of its weights.
        network: the model's, in the precision of the run.
    """

    run: Path
    facts: RunFacts
    config: TrainConfig
    data: str
    weights: Weights
    trained: Trained
    network: Network
    validation: Validation

    def batches(self, stage: Stage, most: int) -> Iterator[Batch]:
        """The first so many clips, or all there are, at the rate of a stage."""
        for batch in self.validation.batches(stage):
            if batch.positions[0] >= min(most, self.validation.clips):
                return
            yield batch

    def shown(self, batch: Batch, frames: Tensor, most: int) -> Float[Tensor, "b t 3 h w"]:
        """Frames of those clips of a batch that are among the first so many, on the CPU."""
        count = sum(n < min(most, self.validation.clips) for n in batch.positions)
        return frames[:count].float().cpu()

    def real(self, most: int) -> Iterator[Float[Tensor, "b t 3 h w"]]:
        """The clips themselves in batches, at the full rate, frames in [0, 1]."""
        for batch in self.batches(stages(self.config.pyramid)[0], most):
            yield self.shown(batch, batch.frames, most) / 255

    def told(self, most: int) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        """Their captions and classes, where the run learned from these; else none."""
        learned, captions, labels = self.config.conditioning, list[str](), list[Any]()
        for batch in self.batches(stages(self.config.pyramid)[0], most):
            captions += [text or "" for text in batch.captions] if learned.text else []
            labels += batch.columns[learned.labels] if learned.labels else []
        return tuple(captions[:most]), tuple(labels[:most])


def open_kept(
    run: Path,
    *,
    data: str = "",
    weights: Weights = "average",
    all_clips: bool = False,
    clips: int = 0,
    levels: int = 0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> Kept:
    """A run to judge, as `fluxshard eval` explains its arguments.

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
    return Kept(
        run=run,
        facts=facts,
        config=config,
        data=data or facts.data,
        weights=weights,
        trained=trained,
        network=in_precision(trained.network, config, ranks.device),
        validation=Validation(source, config, ranks, trained.codec, trained.conditioner),
    )


def evaluate(kept: Kept) -> Record:
    """The loss at fixed noise levels, and what it is of."""
    found = kept.validation(kept.network)
    checkpoint = latest(kept.run)
    assert checkpoint is not None, "load_trained read it"
    return {
        "loss": found["val/loss"],
        "by_level": found["val/by_level"],
        "clips": kept.validation.clips,
        "trained_on": f"{int(checkpoint.name)} clips",
        "weights": kept.weights,
        "data": kept.data,
    }


def motion_by_level(kept: Kept, estimator: FlowEstimator, most: int) -> dict[str, float]:
    """FlowLoss without weights of what is restored at each noise level, (error − floor)/(still −
    floor) over the first so many clips: 0 is the truth, 1 is standing still.

    Both flows are estimated here and by one estimator, so that the floor is 0.

    Raises:
        UsageError: the frames are too small for the estimator.
    """
    found: dict[str, float] = {}
    for stage, levels in fixed_levels(kept.config).items():
        sums = torch.zeros(len(levels), 2, dtype=torch.float64)
        for batch in kept.batches(stage, most):
            true = kept.shown(batch, batch.frames, most) / 255
            for number, level in enumerate(levels):
                clean = kept.validation.restored(kept.network, batch, stage, level).clean
                with torch.no_grad():
                    made = kept.shown(batch, kept.trained.codec.decode(clean), most).clamp(0, 1)
                errors = motion_error(made, true, estimator)
                both = (errors["flow_error"], errors["flow_still"])
                sums[number] += len(true) * torch.tensor(both, dtype=torch.float64)
        for level, (error, still) in zip(levels, sums.tolist(), strict=True):
            found[f"{level:.4g}"] = relative_error(error, 0.0, still)
    return found
