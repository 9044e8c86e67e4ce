"""What learned pair estimators share: batching, padding, and importing torchvision safely."""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from flow_cache.estimators.base import EstimatorUnavailable, zero_if_still
from flow_cache.field import Flow, Frames, Images
from flow_cache.spec import Pair

BATCH = 8  # pairs at once on a GPU, bounds memory
PRECISIONS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

Predict = Callable[[Tensor, Tensor], Tensor]


def frozen(model: nn.Module) -> nn.Module:
    """The model for inference: gradients reach its inputs, never its weights."""
    return model.eval().requires_grad_(False)


def predict_pairs(predict: Predict, first: Images, second: Images, precision: str) -> Flow:
    """Flow in pixels of frames in [0, 1], by a network that takes batches.

    On a CPU each pair runs alone: libraries sum in another order for another batch size, and a
    pair's flow must not depend on its company. Elsewhere all that a gradient is wanted of runs
    together: it keeps the memory of every part anyway.
    """
    size = 1 if first.device.type == "cpu" else BATCH
    if size > 1 and torch.is_grad_enabled() and (first.requires_grad or second.requires_grad):
        size = max(1, len(first))
    kind = PRECISIONS[precision]
    flows = [first.new_zeros(0, 2, *first.shape[-2:])]
    for a, b in zip(first.split(size), second.split(size), strict=True):
        with torch.autocast(a.device.type, kind, enabled=kind != torch.float32):
            flow = predict(a, b)
        flows.append(zero_if_still(flow.float(), a, b))
    return torch.cat(flows)


@torch.no_grad()
def clip_by_pairs(pair: Predict, frames: Frames, pairs: Sequence[Pair]) -> Flow:
    """Flow of a clip's pairs through the batched `pair` form."""
    index = torch.tensor(pairs, dtype=torch.long).view(-1, 2).to(frames.device)  # waits once
    parts = [frames.new_zeros(0, 2, *frames.shape[-2:], dtype=torch.float32)]
    for start in range(0, len(pairs), BATCH):  # as floats, a long clip's pairs are large
        now = index[start : start + BATCH].unbind(1)
        first, second = (frames.index_select(0, i).float() / 255 for i in now)
        parts.append(pair(first, second))
    return torch.cat(parts)


def pad(
    image: Float[Tensor, "n c h w"], multiple: int, smallest: int
) -> tuple[Float[Tensor, "n c padded_h padded_w"], tuple[slice, slice]]:
    """The image with its border repeated on both sides up to a multiple and a smallest side.

    Also returns the rows and columns of the original inside it.
    """
    h, w = image.shape[-2:]
    more_h, more_w = (max(-n % multiple, smallest - n) for n in (h, w))
    top, left = more_h // 2, more_w // 2
    padded = F.pad(image, (left, more_w - left, top, more_h - top), mode="replicate")
    return padded, (slice(top, top + h), slice(left, left + w))


def import_torchvision() -> None:
    """Import torchvision, also one whose compiled part does not fit this torch.

    A torchvision built for CUDA beside a torch built for CPU cannot load its operators, and then
    its import fails because it refers to two of them. No flow network needs either: declaring
    their schemas is enough.
    """
    if "torchvision" in sys.modules:
        return
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise EstimatorUnavailable(
            "torchvision is not installed: pip install torchvision, in the version that belongs "
            f"to torch {torch.__version__} (pip install --no-deps leaves torch as it is)"
        )
    if not _loads(Path(spec.origin).parent):
        for name in ("nms", "qnms"):
            _DECLARED.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    importlib.import_module("torchvision")


_DECLARED = torch.library.Library("torchvision", "FRAGMENT")  # schemas live as long as this


def _loads(folder: Path) -> bool:
    """Whether the compiled operators in torchvision's folder load into this torch."""
    for library in (*folder.glob("_C*.so"), *folder.glob("_C*.pyd")):
        try:
            torch.ops.load_library(library)
        except OSError:
            return False
        return True
    return False
