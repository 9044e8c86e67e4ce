"""Dense Inverse Search (Kroeger et al., arXiv 1603.03590) as OpenCV implements it; CPU only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
import torch
from jaxtyping import Float32, UInt8

from flow_cache.estimators.base import check_at_least
from flow_cache.field import Flow, Frames, Images
from flow_cache.spec import JSON, Pair

PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class DisFlow:
    """OpenCV's DIS on grey frames.

    Uses as many threads as `cv2.setNumThreads` allows; the flow does not depend on their number.

    Attributes:
        preset: of `PRESETS`, trades time for accuracy.
    """

    preset: str = "medium"

    name: ClassVar[str] = "dis"
    weights_sha256: ClassVar[None] = None
    differentiable: ClassVar[bool] = False
    whole_clip: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"unknown DIS preset {self.preset!r}; choose {', '.join(PRESETS)}")

    @property
    def revision(self) -> str:
        return "opencv-" + ".".join(cv2.__version__.split(".")[:2])

    @property
    def params(self) -> dict[str, JSON]:
        return {"preset": self.preset}

    def check_size(self, size: tuple[int, int]) -> None:
        check_at_least(size, 32, "dis")

    def clip(self, frames: Frames, pairs: Sequence[Pair]) -> tuple[Flow, None]:
        self.check_size((frames.shape[-2], frames.shape[-1]))
        grey = _grey(frames)
        flow = self._flow([(grey[i], grey[j]) for i, j in pairs], grey.shape[1:])
        return torch.from_numpy(flow).to(frames.device), None

    def pair(self, first: Images, second: Images) -> Flow:
        self.check_size((first.shape[-2], first.shape[-1]))
        a, b = (_grey((x.detach() * 255).round().clamp(0, 255).byte()) for x in (first, second))
        flow = self._flow(list(zip(a, b, strict=True)), a.shape[1:])
        return torch.from_numpy(flow).to(first.device)

    def _flow(
        self, images: list[tuple[np.ndarray, np.ndarray]], size: tuple[int, ...]
    ) -> Float32[np.ndarray, "n 2 h w"]:
        dis = cv2.DISOpticalFlow.create(PRESETS[self.preset])
        flow = np.zeros((len(images), 2, *size), np.float32)
        for (dx, dy), (first, second) in zip(flow, images, strict=True):
            if not np.array_equal(first, second):
                found = dis.calc(first, second, None)  # type: ignore[call-overload]
                cv2.extractChannel(found, 0, dx)
                cv2.extractChannel(found, 1, dy)
        return flow


def _grey(frames: Frames) -> UInt8[np.ndarray, "t h w"]:
    """Luma of RGB, as OpenCV rounds it."""
    rgb = frames.cpu().numpy()  # to merge planes is many times faster than to transpose them
    return np.stack([cv2.cvtColor(cv2.merge(list(x)), cv2.COLOR_RGB2GRAY) for x in rgb])
