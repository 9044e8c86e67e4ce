"""Whether a flow layer can serve training, and which estimator runs live beside it."""

from collections.abc import Sequence
from typing import Any

from flow_cache import FlowEstimator, FlowSpec, load_estimator
from flow_cache.estimators import IMPORTED
from shards import UsageError
from trainer.config import FlowLossConfig
from trainer.spatial.framing import Framing


def live_estimator(spec: FlowSpec, config: FlowLossConfig) -> FlowEstimator:
    """The estimator to run on the model's frames, checked against the layer's.

    Raises:
        UsageError: there is no such estimator here, or they differ and `config.accept_layer` does
            not name the layer's estimator.
    """
    if spec.estimator.startswith(IMPORTED):
        _check_imported(spec, config)
    name = config.estimator or spec.estimator
    params = dict(spec.params) if name == spec.estimator else {}
    try:
        estimator = load_estimator(name, **params)
    except ValueError as error:
        raise UsageError(str(error)) from error
    live, stored = _identity(estimator), _identity(spec)
    differing = [key for key in live if live[key] != stored[key]]
    if differing and config.accept_layer != spec.estimator:
        raise UsageError(
            f"the live flow estimator is {_named(live, differing)}, but layer {spec.layer} was "
            f"made by {_named(stored, differing)}: a perfect model would still have a loss. Add "
            f"a layer with `fluxshard flow DATASET --estimator {name}`, or accept this one with "
            f"--flow-loss.accept-layer {spec.estimator}"
        )
    return estimator


def _check_imported(spec: FlowSpec, config: FlowLossConfig) -> None:
    """UsageError unless all is said that training against files needs; each is named at once."""
    wanted = {
        "--flow-loss.estimator variational": not config.estimator,
        f"--flow-loss.accept-layer {spec.estimator}": config.accept_layer != spec.estimator,
        "--flow-loss.occluded-weight 0": config.occluded_weight > 0,
    }
    if any(wanted.values()):
        raise UsageError(
            f"layer {spec.layer} was imported from files: no estimator runs live that made it, a "
            "perfect model would still have a loss, and where a pixel is hidden the files may know "
            f"no flow at all. Say {' and '.join(o for o, lacks in wanted.items() if lacks)}"
        )


def check_layer(spec: FlowSpec, config: FlowLossConfig, size: tuple[int, int], stride: int) -> None:
    """Raise UsageError unless the layer can supervise clips of `size` at strides up to `stride`."""
    if spec.size != size:
        raise UsageError(
            f"layer {spec.layer} holds flow of {spec.size[0]}x{spec.size[1]} pixels, the clips are "
            f"{size[0]}x{size[1]}: stored flow serves at one geometry. Add a layer"
            f" of this size with `fluxshard flow DATASET --estimator {spec.estimator}`"
        )
    smallest = min(spec.levels)
    if smallest > 1 or "forward" not in spec.directions:
        raise UsageError(
            f"layer {spec.layer} holds levels {spec.levels}, {' and '.join(spec.directions)}: "
            f"training at strides 1 to {stride} needs level 1 forward. Add "
            f"a layer with `fluxshard flow DATASET --estimator {spec.estimator} --levels 1,2,4 "
            "--directions forward`"
        )
    if config.order != "restored" and "backward" not in spec.directions:
        raise UsageError(
            f"flow_loss.order {config.order!r} compares frames that run backwards, which layer "
            f"{spec.layer} does not hold: add a layer with `fluxshard flow DATASET --estimator "
            f"{spec.estimator} --directions forward,backward`, or use the order 'restored'"
        )


def _identity(source: FlowEstimator | FlowSpec) -> dict[str, Any]:
    name = source.estimator if isinstance(source, FlowSpec) else source.name
    return {
        "name": name,
        "revision": source.revision,
        "params": dict(source.params),
        "weights": source.weights_sha256,
    }


def _named(identity: dict[str, Any], keys: list[str]) -> str:
    details = ", ".join(f"{key} {identity[key]}" for key in keys if key != "name")
    return f"{identity['name']!r}" + (f" ({details})" if details else "")


def check_sizes(estimator: FlowEstimator, framings: Sequence[Framing]) -> None:
    """UsageError if frames are shown smaller than an estimator can take."""
    for framing in framings:
        try:
            estimator.check_size(framing.size)
        except ValueError as error:
            raise UsageError(f"stream.size {framing.bucket}: {error}") from error
