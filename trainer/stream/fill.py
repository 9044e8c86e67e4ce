"""Filling one sample into its place in a batch: byte ranges in, frames and flow out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from flow_cache.coding.codec import decode_field
from flow_cache.lookup import flow_between
from shards.clip_video import decode_clip
from shards.reader import ShardReader
from shards.stopwatch import Stopwatch
from trainer.temporal.plan import Supervision


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FlowTask:
    """The flow that one sample needs, and where it goes: flow [n, 2, h, w], visible [n, h, w]."""

    supervision: Supervision
    flow: Tensor
    visible: Tensor


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Task:
    """One sample to be filled in: the clip's row, the frame for each slot, views of the batch."""

    row: int
    src_index: np.ndarray
    frames: Tensor  # uint8 [t, 3, h, w]
    flow: FlowTask | None


def fill(task: Task, reader: ShardReader) -> Stopwatch:
    """Read and decode what the sample shows, and nothing else; returns what took how long."""
    watch = Stopwatch()
    with watch("read"):
        video = reader.member(task.row, "mp4")
    with watch("decode"):
        show_frames(video, task.src_index, task.frames)
    if task.flow is not None:
        with watch("read"):
            blobs = reader.fields(task.row, task.flow.supervision.fields)
        with watch("flow"):
            answer_pairs(task.flow, blobs)
    return watch


def show_frames(video: bytes, src_index: np.ndarray, out: Tensor) -> None:
    """Decode frames `src_index` [t] of a clip into `out` [t, 3, h, w], at the widest stride."""
    stride = max(s for s in (1, 2, 4) if not (src_index % s).any())
    decoded = decode_clip(video, stride=stride, stop=int(src_index.max()) + 1)
    for slot, frame in zip(out.numpy(), src_index, strict=True):
        slot[:] = decoded[frame // stride]


def answer_pairs(task: FlowTask, blobs: Sequence[bytes]) -> None:
    """Decode the fields of the supervision, compose what is a chain, write each pair's flow."""
    fields = {
        pair: decode_field(blob).field
        for pair, blob in zip(task.supervision.fields, blobs, strict=True)
    }
    for index, chain in enumerate(task.supervision.chains):
        if chain:
            field = flow_between(chain[0][0], chain[-1][1], fields)
            task.flow[index], task.visible[index] = field.flow[0], field.visible[0]
        else:
            task.flow[index], task.visible[index] = 0, False
