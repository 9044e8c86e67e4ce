"""The formats of other readers that are one small file beside each tar."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shards.foreign.samples import Sample
from shards.manifest import canonical_json


def dali_index(samples: Sequence[Sample]) -> bytes:
    """NVIDIA DALI's `.idx`, version 1.2, as its `wds2idx` writes it.

    A line for each sample, with extension, offset, size and name of each member.
    """
    lines = [
        " ".join(f"{m.part} {m.offset} {m.size} {sample.key}.{m.part}" for m in sample.members)
        for sample in samples
    ]
    return "\n".join([f"v1.2 {len(samples)}", *lines, ""]).encode()


def energon_index(samples: Sequence[Sample]) -> bytes:
    """Megatron-Energon's `.tar.idx`: where each sample begins and the last one ends, as uint64."""
    starts = [sample.start for sample in samples]
    return np.array([*starts, samples[-1].end], "<u8").tobytes()


def webshart_index(
    samples: Sequence[Sample], clips: Sequence[Mapping[str, Any]], tar: str, size: int
) -> bytes:
    """webshart's JSON: where every file of a tar is, with the size and caption of the videos.

    Args:
        clips: of each sample; `height`, `width` and `caption` where it has an `mp4`.
        tar, size: name of the tar, and its bytes.
    """
    files: dict[str, dict[str, Any]] = {}
    for sample, clip in zip(samples, clips, strict=True):
        for m in sample.members:
            looks = _looks(clip) if m.part == "mp4" else {}
            files[f"{sample.key}.{m.part}"] = {"offset": m.offset, "length": m.size, **looks}
    geometry = any("width" in facts for facts in files.values())
    return canonical_json(
        {"path": tar, "filesize": size, "files": files, "includes_image_geometry": geometry}
    )


def _looks(clip: Mapping[str, Any]) -> dict[str, Any]:
    height, width = clip["height"], clip["width"]
    captions = {"captions": clip["caption"]} if clip["caption"] else {}
    return {"width": width, "height": height, "aspect": width / height, **captions}
