"""A batch, or one sample, as the loop of each trainer reads it: names, layouts, ranges.

Pixels are x / 127.5 − 1, float32 in [-1, 1]; Cosmos and DiffSynth take bytes. Batches come from a
recipe without noise levels (`PlainRecipe`); a sample is a batch of one.
"""

from typing import Any

import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from shards import UsageError, chance
from trainer.stream.batch import Batch


def videox_fun(batch: Batch, *, text_drop_ratio: float = 0.1) -> dict[str, Any]:
    """VideoX-Fun: `pixel_values` [b, t, 3, h, w], `text`.

    Args:
        text_drop_ratio: share of texts left empty, as its own dataset does; by position.
    """
    _check_frames(batch, "VideoX-Fun")
    kept = [not chance(text_drop_ratio, p, "text") for p in batch.positions]
    texts = [text if keep else "" for text, keep in zip(_texts(batch), kept, strict=True)]
    return {"pixel_values": _symmetric(batch.frames), "text": texts}


def open_sora(batch: Batch, *, fps: float | None = None) -> dict[str, Any]:
    """Open-Sora 2: `video` [b, 3, t, h, w], `text`.

    Args:
        fps: of the stored clips, where the stream has no rate of its own (`stream.fps`).
            Texts end with that of the sample (` 24 FPS.`), as its own dataset's do; without
            either they stay as they are.
    """
    _check_frames(batch, "Open-Sora")
    rate = _rate(batch, fps)
    told = "" if rate is None else f" {rate:g} FPS."
    texts = [text + told for text in _texts(batch)]
    return {"video": _symmetric(batch.frames.transpose(1, 2).contiguous()), "text": texts}


def finetrainers(sample: Batch) -> dict[str, Any]:
    """One sample for finetrainers: `video` [t, 3, h, w], `caption`."""
    return {"video": _symmetric(_only(sample)), "caption": _texts(sample)[0]}


def diffsynth(sample: Batch) -> dict[str, Any]:
    """One sample for DiffSynth: `video`, a list of RGB pictures (PIL), and `prompt`."""
    from PIL import Image

    _check_frames(sample, "DiffSynth")
    height, width = sample.frames.shape[-2:]
    if height % 16 or width % 16:
        raise UsageError(
            f"clips of {height}x{width}: DiffSynth takes sides that are multiples of 16; build the "
            "dataset with another --size"
        )
    pictures = _only(sample).permute(0, 2, 3, 1).contiguous().numpy()
    return {"video": [Image.fromarray(one) for one in pictures], "prompt": _texts(sample)[0]}


def cosmos(sample: Batch, *, fps: float | None = None) -> dict[str, Any]:
    """One sample for Cosmos-Predict 2.5, as an item of its `VideoDataset`: bytes, [3, t, h, w].

    Args:
        fps: of the stored clips, where the stream has no rate of its own (`stream.fps`).

    Raises:
        UsageError: it has none, and none is given.
    """
    _check_frames(sample, "Cosmos")
    rate = _rate(sample, fps)
    if rate is None:
        raise UsageError(
            "Cosmos is told the frame rate of each sample: set stream.fps or, if all clips have "
            "one rate, give it as fps"
        )
    video = _only(sample).transpose(0, 1).contiguous()
    _, frames, height, width = video.shape
    return {
        "video": video,
        "ai_caption": _texts(sample)[0],
        "fps": rate,
        "image_size": torch.tensor([height, width, height, width]),
        "num_frames": frames,
        "padding_mask": torch.zeros(1, height, width),
    }


def _symmetric(frames: UInt8[Tensor, "*shape"]) -> Float32[Tensor, "*shape"]:
    return frames.float().div_(127.5).sub_(1)


def _rate(batch: Batch, stored: float | None) -> float | None:
    """Frames a second of the samples: of the stream's own rate, or of clips stored at one."""
    rate = stored if batch.fps is None else batch.fps
    return None if rate is None else rate / batch.stage.stride


def _texts(batch: Batch) -> list[str]:
    return [caption or "" for caption in batch.captions]


def _only(sample: Batch) -> UInt8[Tensor, "t 3 h w"]:
    if len(sample) != 1:
        raise UsageError(
            f"a batch of {len(sample)} where one sample is wanted: let stream.batch be the number "
            "of ranks, or take samples by number"
        )
    return sample.frames[0]


def _check_frames(batch: Batch, trainer: str) -> None:
    """UsageError unless there are 4k + 1 frames: others would be cut, or fail in the VAE."""
    frames = batch.frames.shape[1]
    if frames % 4 != 1:
        raise UsageError(
            f"samples of {frames} frames: {trainer} takes 4k + 1, as 17 or 49; set the frames of "
            "the recipe, and stream.frames"
        )
