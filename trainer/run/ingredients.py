"""What a run is made of beside its state: what is streamed, the losses, the network's precision."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from flow_cache import FlowSpec
from shards import Dataset, Layer, UsageError
from trainer.codec.codec import Codec
from trainer.config import TrainConfig
from trainer.process.alignment import aligned
from trainer.process.process import Clips, Network
from trainer.run.ranks import Ranks
from trainer.spatial.framing import Framing, check_motion
from trainer.stream.batch import Batch
from trainer.stream.engine import Stream
from trainer.stream.source import Source
from trainer.temporal.recipe import Recipe
from trainer.terms.flowloss import FlowLoss
from trainer.terms.layers import check_layer, check_sizes, live_estimator
from trainer.terms.smoothness import Smoothness
from trainer.terms.term import Term
from trainer.terms.warping import WarpingLoss


def choose_source(dataset: Dataset, config: TrainConfig) -> Source:
    """What to stream, with the flow layer where a loss that needs it has a weight.

    Raises:
        UsageError: there is no such layer.
    """
    source = Source(dataset=dataset, where=config.stream.where)
    needing = [o for o in ("flow_loss", "warping") if getattr(config, o).weight > 0]
    if not needing:
        return source
    if not dataset.manifest.layers:
        off = " ".join(f"--{name.replace('_', '-')}.weight 0" for name in needing)
        raise UsageError(
            f"{dataset.url} holds no flow, which {' and '.join(needing)} need: add it with "
            f"`fluxshard flow {dataset.url} --estimator variational`, or train with {off}"
        )
    return replace(source, layer=dataset.layer(config.stream.layer))


def open_stream(
    source: Source, recipe: Recipe, seed: int, config: TrainConfig, ranks: Ranks
) -> Stream:
    """This rank's rows of a source, as a recipe shows them, on its device."""
    return Stream(
        source,
        config.stream,
        recipe,
        seed=seed,
        rank=ranks.rank,
        ranks=ranks.count,
        device=ranks.device,
    )


def open_terms(layer: Layer | None, framings: Sequence[Framing], config: TrainConfig) -> list[Term]:
    """The losses that have a weight; UsageError if the layer does not suit them or the clips.

    Args:
        framings: how clips are shown, of each stored size.
    """
    terms: list[Term] = []
    if layer is not None:
        spec = FlowSpec.from_json(layer.spec)
        for stored in dict.fromkeys(framing.stored for framing in framings):
            check_layer(spec, config.flow_loss, stored, config.pyramid.coarsest)
        if config.flow_loss.weight:
            estimator = live_estimator(spec, config.flow_loss)
            check_motion(framings, accepted=config.flow_loss.accept_resize)
            check_sizes(estimator, framings)
            terms.append(FlowLoss(config.flow_loss, estimator, config.process.sigma_data))
        if config.warping.weight:
            terms.append(WarpingLoss(config.warping, config.flow_loss.psi))
    if config.smoothness.weight:
        terms.append(Smoothness(config.smoothness))
    return terms


def in_precision(network: Network, config: TrainConfig, device: torch.device) -> Network:
    """The network, computing in what the configuration says."""
    bf16 = config.in_bf16(device.type)

    def call(*inputs: Any) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            return network(*inputs)

    return call


def deal_noise(
    parts: Sequence[Batch], codec: Codec, config: TrainConfig, ranks: Ranks
) -> tuple[Mapping[int, int], Sequence[Clips | None]]:
    """Whose noise each clip of this rank gets, by position: its own or, aligned, one of the batch.

    Rank r has the positions r, r + ranks, … of a global batch.

    Args:
        parts: of this rank's share of a batch.

    Returns:
        The positions, and of each part what the codec made of it; None where nobody asked it yet.
    """
    positions = [position for part in parts for position in part.positions]
    if not config.process.align:
        return {position: position for position in positions}, [None] * len(parts)
    first = positions[0] - ranks.rank
    everyone = range(first, first + config.stream.batch)

    def gather(own: Tensor) -> Tensor:
        of_ranks = ranks.gather(own.cpu())
        return torch.stack(of_ranks, dim=1).flatten(0, 1)

    encoded = [codec.encode(part.frames) for part in parts]
    return aligned(torch.cat(encoded), config.seed, positions, everyone, gather), encoded
