"""Filling one sample into its place in a batch: byte ranges in, frames and flow out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor

from flow_cache import decode_field, decode_fields, flow_between
from shards import ShardReader, Stopwatch, decode_planes, decode_rgb
from trainer.temporal.plan import Supervision


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FlowRequest:
    """The flow that one sample needs, and where it goes.

    Attributes:
        supervision: its pairs, and the stored fields that answer them.
        flow, visible: views of the batch's tensors, to be written.
    """

    supervision: Supervision
    flow: Float32[Tensor, "n 2 h w"]
    visible: Bool[Tensor, "n h w"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SampleRequest:
    """One sample to be filled in.

    Attributes:
        row: of the clip in the dataset.
        src_index: the stored frame for each slot.
        frames: a view of the batch's tensor, to be written: RGB, or the planes of each frame.
        flow: None where no flow is wanted.
    """

    row: int
    src_index: Int64[np.ndarray, " t"]
    frames: UInt8[Tensor, "t 3 h w"] | UInt8[Tensor, "t p"]
    flow: FlowRequest | None


def fill(request: SampleRequest, reader: ShardReader) -> Stopwatch:
    """Read and decode what the sample shows, and nothing else; returns what took how long."""
    watch = Stopwatch()
    with watch("read"):
        video = reader.member(request.row, "mp4")
    with watch("decode"):
        decode = decode_rgb if request.frames.ndim == 4 else decode_planes
        decode(video, request.src_index.tolist(), request.frames.numpy())
    if request.flow is not None:
        with watch("read"):
            blobs = reader.fields(request.row, request.flow.supervision.fields)
        with watch("flow"):
            answer_pairs(request.flow, blobs)
    return watch


def answer_pairs(request: FlowRequest, blobs: Sequence[bytes]) -> None:
    """Decode the fields of the supervision, compose what is a chain, write each pair's flow."""
    chains = request.supervision.chains
    coded = dict(zip(request.supervision.fields, blobs, strict=True))
    alone = [index for index, chain in enumerate(chains) if len(chain) == 1]
    flow, visible = request.flow.numpy(), request.visible.numpy()
    decode_fields(
        [coded[chains[index][0]] for index in alone],
        [flow[index] for index in alone],
        [visible[index] for index in alone],
    )
    links = {pair for chain in chains if len(chain) > 1 for pair in chain}
    held = {pair: decode_field(coded[pair]).field for pair in links}
    for index, chain in enumerate(chains):
        if len(chain) > 1:
            field = flow_between(chain[0][0], chain[-1][1], {pair: held[pair] for pair in chain})
            request.flow[index], request.visible[index] = field.flow[0], field.visible[0]
        elif not chain:
            request.flow[index], request.visible[index] = 0, False
