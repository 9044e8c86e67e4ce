"""The contract of every optical flow estimator."""

from collections.abc import Sequence
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from flow_cache.field import Flow, Frames, Images, Visible
from flow_cache.spec import JSON, Pair


class EstimatorUnavailable(ValueError):
    """A package, checkout or weights file is missing; the message says how to get it."""


class FlowEstimator(Protocol):
    """Frames in, flow out; conventions as in `flow_cache.field`.

    A pair's flow depends on nothing but its two frames (with `whole_clip`, on the clip): not on
    the other pairs of the call nor on the number of threads, bit for bit on a CPU, because
    stored fields are reused between clips of different length. Identical frames have zero flow.
    """

    @property
    def name(self) -> str:
        """Id that `load_estimator` knows."""

    @property
    def revision(self) -> str:
        """Changes whenever the same frames may give another flow; part of the flow spec."""

    @property
    def params(self) -> dict[str, JSON]:
        """Every parameter that decides the flow, as `load_estimator` takes them."""

    @property
    def weights_sha256(self) -> str | None:
        """SHA-256 of the weights file, None for an estimator without weights."""

    @property
    def differentiable(self) -> bool:
        """Whether `pair` carries gradients to its frames."""

    @property
    def whole_clip(self) -> bool:
        """Whether a pair's flow depends on the other frames of the clip."""

    def check_size(self, size: tuple[int, int]) -> None:
        """Raise ValueError if frames of this (height, width) cannot be estimated."""

    def clip(self, frames: Frames, pairs: Sequence[Pair]) -> tuple[Flow, Visible | None]:
        """Flow of frame pairs of one clip.

        Args:
            frames: RGB.
            pairs: n times (source, target) frame.

        Returns:
            The flow in pixels, without gradient; and visibility (True = visible) where the
            estimator has its own, else None.
        """

    def pair(self, first: Images, second: Images) -> Flow:
        """Flow in pixels from `first` to `second`, RGB in [0, 1].

        Equals `clip` on frames that came from uint8 by division by 255.
        """


def check_at_least(size: tuple[int, int], smallest: int, name: str) -> None:
    """Raise ValueError unless both sides of `size` reach `smallest` pixels."""
    if min(size) < smallest:
        raise ValueError(
            f"frames of {size[0]}x{size[1]} are too small for {name}, which needs at least "
            f"{smallest} pixels per side: choose a larger size"
        )


def zero_if_still(
    flow: Flow, first: Float[Tensor, "n c h w"], second: Float[Tensor, "n c h w"]
) -> Flow:
    """The flow with exact zeros where a pair's images are equal; gradients stay."""
    largest = (first - second).detach().abs().amax((1, 2, 3), keepdim=True)
    return flow - flow.detach() * (largest == 0)
