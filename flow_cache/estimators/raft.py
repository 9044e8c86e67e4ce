"""RAFT (Teed and Deng, arXiv 2003.12039) as torchvision implements it; weights by torch hub."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version
from typing import ClassVar

from torch import Tensor, nn

from flow_cache.estimators.base import check_at_least
from flow_cache.estimators.network import (
    PRECISIONS,
    clip_by_pairs,
    frozen,
    import_torchvision,
    pad,
    predict_pairs,
)
from flow_cache.estimators.weights import load_weights
from flow_cache.field import Flow, Frames, Images
from flow_cache.spec import JSON, Pair

STRIDE, SMALLEST = 8, 128  # of what the network takes, in pixels


@dataclass(kw_only=True, slots=True)
class Raft:
    """One of torchvision's RAFT models. Subclasses name the model and its default weights.

    Attributes:
        weights: a name that torchvision knows for this model.
        updates: of its recurrent unit.
        precision: "float32", or "float16" or "bfloat16" by autocast.
    """

    weights: str
    updates: int = 12
    precision: str = "float32"
    weights_sha256: str = field(init=False, repr=False)
    _model: nn.Module = field(init=False, repr=False, compare=False)

    name: ClassVar[str]
    weights_class: ClassVar[str]  # torchvision's list of weights for the model
    differentiable: ClassVar[bool] = True
    whole_clip: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"unknown precision {self.precision!r}; choose {', '.join(PRECISIONS)}"
            )
        if self.updates < 1:
            raise ValueError(f"RAFT needs at least one update, got {self.updates}")
        import_torchvision()
        zoo = import_module("torchvision.models.optical_flow")
        known = getattr(zoo, self.weights_class).__members__
        if self.weights not in known:
            raise ValueError(
                f"unknown weights {self.weights!r} of {self.name}; choose {', '.join(known)}"
            )
        state, digest = load_weights(known[self.weights].url, check_hash=True)
        model = getattr(zoo, self.name)(weights=None, progress=False)
        model.load_state_dict(state)
        self._model, self.weights_sha256 = frozen(model), digest

    @property
    def revision(self) -> str:
        return "torchvision-" + ".".join(version("torchvision").split(".")[:2])

    @property
    def params(self) -> dict[str, JSON]:
        return {"weights": self.weights, "updates": self.updates, "precision": self.precision}

    def check_size(self, size: tuple[int, int]) -> None:
        check_at_least(size, 32, self.name)

    def clip(self, frames: Frames, pairs: Sequence[Pair]) -> tuple[Flow, None]:
        self.check_size((frames.shape[-2], frames.shape[-1]))
        return clip_by_pairs(self.pair, frames, pairs), None

    def pair(self, first: Images, second: Images) -> Flow:
        self.check_size((first.shape[-2], first.shape[-1]))
        self._model.to(first.device)
        return predict_pairs(self._predict, first, second, self.precision)

    def _predict(self, first: Tensor, second: Tensor) -> Tensor:
        (a, inside), (b, _) = (pad(2 * x - 1, STRIDE, SMALLEST) for x in (first, second))
        flow: Tensor = self._model(a, b, num_flow_updates=self.updates)[-1]
        return flow[..., *inside]


@dataclass(kw_only=True, slots=True)
class RaftSmall(Raft):
    """1.0 million parameters, 3.8 MB; weights trained on FlyingChairs and FlyingThings3D."""

    weights: str = "C_T_V2"
    name: ClassVar[str] = "raft_small"
    weights_class: ClassVar[str] = "Raft_Small_Weights"


@dataclass(kw_only=True, slots=True)
class RaftLarge(Raft):
    """5.3 million parameters, 20.1 MB; weights fine-tuned on Sintel, KITTI and HD1K."""

    weights: str = "C_T_SKHT_V2"
    name: ClassVar[str] = "raft_large"
    weights_class: ClassVar[str] = "Raft_Large_Weights"
