"""Any model of ptlflow (Morimitsu, github.com/hmorimitsu/ptlflow) as `ptlflow:NAME`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from flow_cache.estimators.base import EstimatorUnavailable, check_at_least
from flow_cache.estimators.network import (
    clip_by_pairs,
    frozen,
    import_torchvision,
    pad,
    predict_pairs,
)
from flow_cache.estimators.weights import fetching, hub_file, sha256
from flow_cache.field import Flow, Frames, Images
from flow_cache.spec import JSON, Pair

SMALLEST = (
    128  # pixels per side; below, the coarsest correlations of RAFT-like models are one pixel
)


@dataclass(kw_only=True, slots=True)
class PtlFlow:
    """A model of ptlflow; licences of models and weights differ and are the user's concern.

    Attributes:
        model: ptlflow's name of it.
        checkpoint: the name of one of the model's pretrained checkpoints, or a file.
    """

    model: str
    checkpoint: str = "things"
    weights_sha256: str = field(init=False, repr=False)
    _network: nn.Module = field(init=False, repr=False, compare=False)

    differentiable: ClassVar[bool] = True
    whole_clip: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if find_spec("ptlflow") is None:
            raise EstimatorUnavailable("ptlflow is not installed: pip install 'fluxshard[ptlflow]'")
        import_torchvision()
        library: Any = import_module("ptlflow")
        known = getattr(library.get_model_reference(self.model), "pretrained_checkpoints", {})
        if self.checkpoint not in known and not Path(self.checkpoint).is_file():
            raise ValueError(
                f"unknown checkpoint {self.checkpoint!r} of ptlflow:{self.model}; choose "
                f"{', '.join(known) or 'a file'}"
            )
        source = known.get(self.checkpoint, self.checkpoint)
        network = fetching(source, lambda: library.get_model(self.model, ckpt_path=self.checkpoint))
        file = hub_file(source) if self.checkpoint in known else Path(self.checkpoint)
        self._network, self.weights_sha256 = frozen(network), sha256(file)

    @property
    def name(self) -> str:
        return f"ptlflow:{self.model}"

    @property
    def revision(self) -> str:
        return "ptlflow-" + version("ptlflow")

    @property
    def params(self) -> dict[str, JSON]:
        return {"checkpoint": self.checkpoint}

    def check_size(self, size: tuple[int, int]) -> None:
        check_at_least(size, 32, self.name)

    def clip(self, frames: Frames, pairs: Sequence[Pair]) -> tuple[Flow, None]:
        self.check_size((frames.shape[-2], frames.shape[-1]))
        return clip_by_pairs(self.pair, frames, pairs), None

    def pair(self, first: Images, second: Images) -> Flow:
        self.check_size((first.shape[-2], first.shape[-1]))
        self._network.to(first.device)
        return predict_pairs(self._predict, first, second, "float32")

    def _predict(self, first: Tensor, second: Tensor) -> Tensor:
        (a, inside), (b, _) = (pad(x, 1, SMALLEST) for x in (first, second))
        images = torch.stack([a, b], 1).flip(2)  # its models expect BGR
        flow: Tensor = self._network({"images": images})["flows"][:, 0]
        return flow[..., *inside]
