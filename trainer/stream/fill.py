"""Filling one sample into its place in a batch: byte ranges in, frames and flow out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor

from flow_cache import (
    FlowField,
    PackedFields,
    decode_field,
    decode_fields,
    flow_between,
    open_fields,
)
from shards import ShardReader, Stopwatch, decode_planes, decode_rgb
from trainer.spatial.transform import SpatialTransform
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
class PackedRequest:
    """The flow that one sample needs, for a device to decode.

    Attributes:
        supervision: its pairs, each answered by one stored field or by none.
        fields: a view of the batch's tensors, to be written: one field for each pair.
        escapes: to be written: how many there are of the fields'.
    """

    supervision: Supervision
    fields: PackedFields
    escapes: Int64[Tensor, ""]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SampleRequest:
    """One sample to be filled in.

    Attributes:
        row: of the clip in the dataset.
        src_index: the stored frame for each slot.
        frames: a view of the batch's tensor, to be written: RGB, or the planes of each frame.
        flow: None where no flow is wanted.
        space: what is shown of the pictures; None: all, as they are stored. Of planes and of
            packed fields all is written, for the device to show a part of.
    """

    row: int
    src_index: Int64[np.ndarray, " t"]
    frames: UInt8[Tensor, "t 3 h w"] | UInt8[Tensor, "t p"]
    flow: FlowRequest | PackedRequest | None
    space: SpatialTransform | None = None


def fill(request: SampleRequest, reader: ShardReader) -> Stopwatch:
    """Read and decode what the sample shows, and nothing else; returns what took how long."""
    watch = Stopwatch()
    with watch("read"):
        video = reader.member(request.row, "mp4")
    with watch("decode"):
        _decode(video, request)
    if request.flow is not None:
        with watch("read"):
            blobs = reader.fields(request.row, request.flow.supervision.fields)
        with watch("flow"):
            if isinstance(request.flow, PackedRequest):
                pack_pairs(request.flow, blobs)
            else:
                answer_pairs(request.flow, blobs, request.space)
    return watch


def _decode(video: bytes, request: SampleRequest) -> None:
    shown, out = request.src_index.tolist(), request.frames.numpy()
    if request.frames.ndim == 2:
        decode_planes(video, shown, out)
    elif request.space is None:
        decode_rgb(video, shown, out)
    else:
        decode_rgb(video, shown, out, request.space.write)


def pack_pairs(request: PackedRequest, blobs: Sequence[bytes]) -> None:
    """Undo the entropy coding of the fields of the supervision, pair by pair."""
    coded = dict(zip(request.supervision.fields, blobs, strict=True))
    of_pairs = [coded[chain[0]] if chain else None for chain in request.supervision.chains]
    request.escapes.fill_(open_fields(of_pairs, request.fields))


def answer_pairs(
    request: FlowRequest, blobs: Sequence[bytes], space: SpatialTransform | None = None
) -> None:
    """Decode the fields of the supervision, compose what is a chain, write each pair's flow."""
    if space is None:
        _write_pairs(request, blobs)
        return
    pairs = len(request.flow)
    whole = FlowRequest(
        supervision=request.supervision,
        flow=torch.empty(pairs, 2, *space.stored),
        visible=torch.empty(pairs, *space.stored, dtype=torch.bool),
    )
    _write_pairs(whole, blobs)
    shown = space.on_flow(FlowField(flow=whole.flow, visible=whole.visible))
    request.flow.copy_(shown.flow)
    request.visible.copy_(shown.visible)


def _write_pairs(request: FlowRequest, blobs: Sequence[bytes]) -> None:
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
