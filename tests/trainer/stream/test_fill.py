import numpy as np
import pytest
import torch

from flow_cache import FlowField, packed_room, restore_fields
from shards.clip_video import decode_clip
from shards.reader import ShardReader
from trainer.spatial.transform import SpatialTransform
from trainer.stream.fill import (
    FlowRequest,
    PackedRequest,
    SampleRequest,
    answer_pairs,
    fill,
    pack_pairs,
)
from trainer.temporal.plan import Supervision

SIZE = (48, 64)


def reader_of(made) -> ShardReader:
    return ShardReader(made.dataset, made.dataset.layer("variational"))


def flow_request(chains: tuple, fill_value: float = 7.0) -> FlowRequest:
    slots = np.arange(2 * len(chains), dtype=np.int64).reshape(-1, 2)
    return FlowRequest(
        supervision=Supervision(slots=slots, chains=chains),
        flow=torch.full((len(chains), 2, *SIZE), fill_value),
        visible=torch.ones(len(chains), *SIZE, dtype=torch.bool),
    )


@pytest.mark.parametrize("shown", [[0, 4, 8], [6, 2, 4], [3, 1, 8], [5]])
def test_frames_stand_in_their_slots_whatever_the_stride(made, shown: list[int]) -> None:
    reader = reader_of(made)
    out = torch.empty(len(shown), 3, *SIZE, dtype=torch.uint8)
    fill(SampleRequest(row=2, src_index=np.array(shown), frames=out, flow=None), reader)
    assert (out.numpy() == decode_clip(reader.member(2, "mp4"))[shown]).all()


def test_stored_pairs_are_answered_and_unsupervised_ones_cleared(made) -> None:
    request = flow_request((((0, 2),), (), ((2, 1), (1, 0))))
    answer_pairs(request, reader_of(made).fields(1, request.supervision.fields))
    exact = made.fields[1][0, 2]
    assert (request.flow[0] - exact.flow[0]).abs().max() <= made.spec.max_error_px
    assert torch.equal(request.visible[0], exact.visible[0])
    assert not request.flow[1].any()
    assert not request.visible[1].any()
    both = request.visible[2]  # the chain 2-1-0 against the stored pair 2-0
    apart = (request.flow[2] - made.fields[1][2, 0].flow[0]).abs()[:, both]
    assert both.float().mean() > 0.5
    assert apart.median() < 0.5


def test_packed_pairs_are_those_that_are_answered(made) -> None:
    """Pair by pair, whatever the order in which their fields are read."""
    whole = flow_request((((4, 6),), (), ((0, 2),), ((2, 1),)))
    blobs = reader_of(made).fields(1, whole.supervision.fields)
    answer_pairs(whole, blobs)
    room, count = packed_room(4, SIZE), torch.zeros((), dtype=torch.int64)
    pack_pairs(PackedRequest(supervision=whole.supervision, fields=room, escapes=count), blobs)
    assert 0 < count < len(room.escapes)
    found = restore_fields(room)
    assert torch.equal(found.flow, whole.flow)
    assert torch.equal(found.visible, whole.visible)


@pytest.mark.parametrize("size", [(32, 40), (16, 20)])
def test_frames_flow_and_visibility_show_the_same_box(made, size: tuple[int, int]) -> None:
    space = SpatialTransform(stored=SIZE, top=6, left=9, height=32, width=40, size=size, flip=True)
    chains, reader = (((0, 2),), (), ((2, 1), (1, 0))), reader_of(made)
    flow = FlowRequest(
        supervision=flow_request(chains).supervision,
        flow=torch.full((3, 2, *size), 7.0),
        visible=torch.ones(3, *size, dtype=torch.bool),
    )
    out, index = torch.empty(2, 3, *size, dtype=torch.uint8), np.array([2, 0])
    fill(SampleRequest(row=1, src_index=index, frames=out, flow=flow, space=space), reader)
    whole = flow_request(chains)
    answer_pairs(whole, reader.fields(1, whole.supervision.fields))
    frames = torch.from_numpy(decode_clip(reader.member(1, "mp4"))[index])
    assert torch.equal(out, space.on_frames(frames))
    shown = space.on_flow(FlowField(flow=whole.flow, visible=whole.visible))
    assert torch.equal(flow.flow, shown.flow)
    assert torch.equal(flow.visible, shown.visible)
    assert 0.2 < flow.visible[0].float().mean() < 1
    assert not flow.visible[1].any()
    assert not flow.flow[1].any()


def test_a_sample_without_flow_reads_none(made, monkeypatch) -> None:
    reader, index = reader_of(made), np.array([0, 2, 4, 6])
    out = torch.empty(4, 3, *SIZE, dtype=torch.uint8)
    request = SampleRequest(row=3, src_index=index, frames=out, flow=None)
    monkeypatch.setattr(reader, "fields", None)
    assert set(fill(request, reader).seconds) == {"read", "decode"}
    assert (out.numpy() == decode_clip(reader.member(3, "mp4"))[index]).all()


def test_a_sample_with_flow_gets_both(made) -> None:
    out, flow = torch.zeros(2, 3, *SIZE, dtype=torch.uint8), flow_request((((0, 1),),))
    request = SampleRequest(row=0, src_index=np.array([0, 1]), frames=out, flow=flow)
    assert set(fill(request, reader_of(made)).seconds) == {"read", "decode", "flow"}
    assert out.any()
    assert not (flow.flow == 7).all()


@pytest.mark.parametrize("shown", [[0, 1, 2], [0, 4]])
def test_of_a_clip_without_flow_its_video_is_read_and_nothing_else(made, shown: list[int]) -> None:
    reader = reader_of(made)
    out = torch.empty(len(shown), 3, *SIZE, dtype=torch.uint8)
    fill(SampleRequest(row=3, src_index=np.array(shown), frames=out, flow=None), reader)
    assert reader.bytes_read == len(reader_of(made).member(3, "mp4"))
