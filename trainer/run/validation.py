"""The loss of clips that are never trained on, at fixed noise levels, with fixed noise.

Which source videos are kept is decided by the digest of what a column says of them. Clips, windows
and noise do not depend on the run's seed, so that the curves of several runs can be compared.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice

import torch
from jaxtyping import Bool
from torch import Tensor

from shards import Cursor, UsageError, fold
from trainer.codec.codec import Codec
from trainer.config import TrainConfig
from trainer.model.text import Conditioner
from trainer.process.build import build_process
from trainer.process.noise import noise_like
from trainer.process.objective import Reconstruction, reconstruct
from trainer.process.process import Network
from trainer.run.ingredients import open_stream
from trainer.run.log import Record
from trainer.run.ranks import Ranks
from trainer.stream.batch import Batch
from trainer.stream.source import Source
from trainer.temporal.recipe import PlainRecipe
from trainer.temporal.stages import Stage, stages

_SEED = fold(0, "validation")


def split(source: Source, config: TrainConfig) -> tuple[Source, Source]:
    """What to train on, and what to judge by; without a share kept both are all there is."""
    kept, by = config.validation.share, config.validation.by
    if kept == 0:
        return source, replace(source, layer=None)
    given = f"({source.where}) and " if source.where.strip() else ""
    # Short to write: what decides the order stands in every checkpoint.
    train = f"{given}(share({by}) >= {kept} or {by} is None)"
    return (
        replace(source, where=train),
        replace(source, where=f"{given}share({by}) < {kept}", layer=None),
    )


def fixed_levels(config: TrainConfig) -> dict[Stage, list[float]]:
    """The levels to judge at, the middles of equal parts of the law, by the stage that serves each.

    Where two stages overlap, that of more frames.
    """
    count, law = config.validation.levels, build_process(config.process).law
    choices, found = stages(config.pyramid), dict[Stage, list[float]]()
    for number in range(count):
        level = law.level((number + 0.5) / count)
        stage = next(s for s in choices if level <= s.interval.start)
        found.setdefault(stage, []).append(level)
    return found


class Validation:
    """Judges a network on the same clips, windows and noise each time.

    Attributes:
        clips: how many there are to judge.

    Raises:
        UsageError: there is no clip to judge, or they do not suit the configuration.
    """

    def __init__(
        self,
        source: Source,
        config: TrainConfig,
        ranks: Ranks,
        codec: Codec,
        conditioner: Conditioner,
    ) -> None:
        self._frames = None if config.stream.buckets else config.stream.frames
        plain = PlainRecipe(self._frames, seed=_SEED)
        try:
            self._stream = open_stream(source, plain, _SEED, config, ranks)
        except UsageError as error:
            raise UsageError(
                f"the clips that validation.share {config.validation.share} keeps cannot be "
                f"judged: {error}; of few source videos, keep a larger share"
            ) from error
        self.config, self._ranks = config, ranks
        self._codec, self._conditioner = codec, conditioner
        self.clips = min(
            config.validation.clips, sum(one.order.total for one in self._stream.places.samples)
        )
        self._process = build_process(config.process)

    @torch.no_grad()
    def __call__(self, network: Network) -> Record:
        """`val/loss`, the mean over the levels, and `val/by_level`, the loss at each of them."""
        by_level: dict[str, float] = {}
        for stage, levels in fixed_levels(self.config).items():
            ours = self._totals(network, stage, levels).tolist()
            for level, of_ranks in zip(
                levels, zip(*self._ranks.gather(ours), strict=True), strict=True
            ):
                by_level[f"{level:.4g}"] = sum(of_ranks) / self.clips
        return {"val/loss": sum(by_level.values()) / len(by_level), "val/by_level": by_level}

    def _totals(self, network: Network, stage: Stage, levels: Sequence[float]) -> Tensor:
        """This rank's sum of losses over its clips, at each of a stage's levels."""
        totals = torch.zeros(len(levels), dtype=torch.float64)
        for batch in self.batches(stage):
            judged = self.judged(batch)
            losses = [self.restored(network, batch, stage, level).each for level in levels]
            totals += torch.stack([each[judged].sum() for each in losses]).double().cpu()
        return totals

    def batches(self, stage: Stage) -> Iterator[Batch]:
        """This rank's clips at the rate of a stage, in parts that fit into memory."""
        stream, batch_size = self._stream, self.config.stream.batch
        stream.recipe = PlainRecipe(self._frames, stage.stride, _SEED)
        stream.cursor = Cursor(order=stream.order)
        with closing(iter(stream)) as batches:
            for batch in islice(batches, math.ceil(self.clips / batch_size)):
                yield from batch.split(self.config.optim.accumulate)

    def judged(self, batch: Batch) -> Bool[Tensor, " b"]:
        """Which clips of a batch count; the stream has no end, so clips past the last are out."""
        wanted = [position < self.clips for position in batch.positions]
        return torch.tensor(wanted, device=batch.frames.device)

    @torch.no_grad()
    def restored(
        self, network: Network, batch: Batch, stage: Stage, level: float
    ) -> Reconstruction:
        """What a network makes of a batch's clips at a noise level."""
        clips = self._codec.encode(batch.frames)
        shown = self._codec.rule.first_frames(batch.frames.shape[1])
        return reconstruct(
            self._process,
            network,
            clips,
            noise_like(clips, _SEED, batch.positions),
            clips.new_full(clips.shape[:2], level),
            batch.time[shown].to(clips.device),
            stage.interval,
            self._conditioner(batch.captions, batch.columns, [True] * len(batch)),
        )
