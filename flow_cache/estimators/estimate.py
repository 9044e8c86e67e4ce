"""All fields of a clip: flow by an estimator, visibility by the spec's criterion."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flow_cache.estimators.base import FlowEstimator
from flow_cache.field import Flow, FlowField, Frames, Visible
from flow_cache.matching import matched_visibility
from flow_cache.occlusion import MATCHED, NATIVE, check_criterion, visibility
from flow_cache.spec import FlowSpec, Pair, level_pairs


def estimate_clip(
    estimator: FlowEstimator, frames: Frames, spec: FlowSpec, pairs: Sequence[Pair] | None = None
) -> dict[Pair, FlowField]:
    """Fields (n = 1, on the CPU) of one clip, in the order of its pairs.

    Args:
        estimator: the one the spec names.
        frames: RGB at the spec's size.
        spec: decides the pairs, the criterion and the size.
        pairs: compute only these (the rest came from a cache); default all of the spec's pairs.

    Raises:
        ValueError: estimator or frames are not what the spec says, or the criterion is "native"
            and the estimator has no visibility of its own.
    """
    _check(estimator, frames, spec)
    wanted = level_pairs(len(frames), spec.levels, spec.directions) if pairs is None else pairs
    if not wanted:
        return {}
    # Consistency needs the way back too, even where only one direction is stored.
    both_ways = wanted if spec.occlusion == NATIVE else (*wanted, *((j, i) for i, j in wanted))
    computed = tuple(dict.fromkeys(both_ways))
    flow, native = _estimate(estimator, frames, computed)
    flows = dict(zip(computed, flow, strict=True))
    if spec.occlusion != NATIVE:
        seen = _seen(frames, flows, spec.occlusion)
    elif native is not None:
        seen = dict(zip(computed, native, strict=True))
    else:
        raise ValueError(
            f"estimator {estimator.name!r} has no visibility of its own; "
            "choose another occlusion criterion than 'native'"
        )
    return {pair: FlowField(flow=flows[pair][None], visible=seen[pair][None]) for pair in wanted}


def _seen(
    frames: Frames, flows: Mapping[Pair, Float[Tensor, "2 h w"]], criterion: str
) -> dict[Pair, Bool[Tensor, "h w"]]:
    """Visibility of pairs that are there with their way back."""
    seen: dict[Pair, Tensor] = {}
    for i, j in flows:
        if (i, j) not in seen:
            both = torch.stack((flows[i, j], flows[j, i]))
            if criterion == MATCHED:
                masks = matched_visibility(torch.stack((frames[i], frames[j])), both)
            else:
                masks = visibility(both, both.flip(0), criterion)
            seen[i, j], seen[j, i] = masks
    return seen


def _estimate(
    estimator: FlowEstimator, frames: Frames, pairs: Sequence[Pair]
) -> tuple[Flow, Visible | None]:
    """Flow and native visibility of pairs, on the CPU.

    Pairs of equal frames have no flow, by every pairwise estimator's contract: black and frozen
    stretches of a video cost nothing.
    """
    still = torch.tensor([torch.equal(frames[i], frames[j]) for i, j in pairs])
    if estimator.whole_clip or not still.any():
        flow, native = estimator.clip(frames, pairs)
        return flow.to("cpu", torch.float32), None if native is None else native.cpu()
    moving = [pair for pair, same in zip(pairs, still.tolist(), strict=True) if not same]
    flow = torch.zeros(len(pairs), 2, *frames.shape[-2:])
    visible = torch.ones(len(pairs), *frames.shape[-2:], dtype=torch.bool)
    if not moving:
        return flow, visible
    moved, native = estimator.clip(frames, moving)
    flow[~still] = moved.to("cpu", torch.float32)
    if native is None:
        return flow, None
    visible[~still] = native.cpu()
    return flow, visible


def _check(estimator: FlowEstimator, frames: Tensor, spec: FlowSpec) -> None:
    check_criterion(spec.occlusion)
    if frames.shape[-2:] != spec.size:
        raise ValueError(f"frames are {tuple(frames.shape[-2:])}, the flow spec says {spec.size}")
    check_estimator(estimator, spec)


def check_estimator(estimator: FlowEstimator, spec: FlowSpec) -> None:
    """Raise ValueError unless the estimator is the one that a spec names, in every detail."""
    given = (estimator.name, estimator.revision, estimator.weights_sha256, dict(estimator.params))
    named = (spec.estimator, spec.revision, spec.weights_sha256, dict(spec.params))
    if given != named:
        raise ValueError(f"the flow spec is for estimator {named}, not for {given}")
