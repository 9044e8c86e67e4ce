"""Fields that a device decodes are those that the host decodes, to the last bit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from flow_cache.coding.codec import decode_field, encode_field
from flow_cache.coding.header import DamagedField, read_header
from flow_cache.coding.packed import PackedFields, open_fields, packed_room, restore_fields
from flow_cache.coding.scales import LARGEST_STEP

GOLDEN = Path(__file__).parents[2] / "golden" / "flow"
SECOND_LAYOUT = [path.stem for path in sorted(GOLDEN.glob("scales_*.flow"))]
SIZES = st.tuples(st.integers(1, 4), st.just(2), st.integers(1, 13), st.integers(1, 13))
GENTLE, HARSH = (st.floats(-most, most, width=32) for most in (2.0, 1.5 * LARGEST_STEP))


def packed(blobs: list[bytes | None], size: tuple[int, int]) -> PackedFields:
    """In a room that held something else, of whose escapes only those in use go on."""
    room = packed_room(len(blobs), size)
    for tensor in room.tensors():
        tensor.fill_(99)
    used = open_fields(blobs, room)
    return PackedFields(
        size=size, codes=room.codes, escapes=room.escapes[:used], bits=room.bits, steps=room.steps
    )


def check(blobs: list[bytes], size: tuple[int, int]) -> None:
    found = restore_fields(packed([*blobs], size))
    assert found.flow.is_contiguous()
    for flow, visible, blob in zip(found.flow, found.visible, blobs, strict=True):
        exact = decode_field(blob)
        assert torch.equal(flow.view(torch.int32), exact.flow.view(torch.int32)), "bit for bit"
        assert torch.equal(visible, exact.visible)


def encoded(flow: np.ndarray, max_error_px: float = 0.5) -> bytes:
    visible = flow[0] < flow[1] + 0.25
    return encode_field(
        flow, visible, pair=(0, 1), max_error_px=max_error_px, spec_digest="5c" * 32
    )


@pytest.mark.parametrize("name", SECOND_LAYOUT)
def test_golden_fields_are_restored_to_the_bits_of_the_host(name: str) -> None:
    blob = (GOLDEN / f"{name}.flow").read_bytes()
    check([blob, blob], read_header(blob).size)


def test_there_are_golden_fields_with_escapes_and_of_odd_sizes() -> None:
    assert len(SECOND_LAYOUT) == 7


@given(
    flows=SIZES.flatmap(lambda shape: arrays.arrays(np.float32, shape, elements=GENTLE | HARSH)),
    errors=st.lists(st.floats(2.0**-12, 2.0**4), min_size=4, max_size=4),
)
def test_any_fields_are_restored_to_the_bits_of_the_host(
    flows: np.ndarray, errors: list[float]
) -> None:
    """Each with a step of its own, still or rough, saturated or not."""
    blobs = [encoded(flow, error) for flow, error in zip(flows, errors, strict=False)]
    check(blobs, (flows.shape[2], flows.shape[3]))


def test_no_field_is_one_without_motion_that_is_visible_nowhere() -> None:
    rough = np.random.default_rng(0).normal(0, 9, (2, 9, 11)).astype(np.float32)
    found = restore_fields(packed([None, encoded(rough), None], (9, 11)))
    assert not found.flow[[0, 2]].any()
    assert not found.visible[[0, 2]].any()
    assert torch.equal(found.flow[1], decode_field(encoded(rough)).flow)


def test_parts_of_a_room_are_its_own_memory() -> None:
    room = packed_room(6, (5, 7))
    for number, part in enumerate(room.split(3)):
        assert [len(tensor) for tensor in part.tensors()] == [2, 2 * room.codes.shape[1], 2, 2]
        for tensor in part.tensors():
            tensor.fill_(number)
    assert all(tensor.flatten()[0] == 0 for tensor in room.tensors())
    assert all(tensor.flatten()[-1] == 2 for tensor in room.tensors())


def test_damage_the_first_layout_and_another_size_are_refused() -> None:
    blob = encoded(np.zeros((2, 5, 7), np.float32))
    with pytest.raises(DamagedField, match="checksum"):
        open_fields([blob[:-1] + b"?"], packed_room(1, (5, 7)))
    with pytest.raises(ValueError, match=r"a field of \(5, 7\) has no place in a room of \(7, 5\)"):
        open_fields([blob], packed_room(1, (7, 5)))
    old = (GOLDEN / "scene.flow").read_bytes()
    with pytest.raises(DamagedField, match="b'FXF1' in a layer of b'FXF2'"):
        open_fields([old], packed_room(1, read_header(old).size))


def test_what_travels_is_a_tenth_of_flow_and_visibility() -> None:
    y, x = np.indices((64, 96), dtype=np.float32)
    flow = np.stack((np.sin(x / 9) * 3 + y / 20, np.cos(y / 7) * 2 - x / 30)).astype(np.float32)
    fields = packed([encoded(flow, 1 / 8)], (64, 96))
    travels = sum(tensor.nbytes for tensor in fields.tensors())
    assert travels < (flow.nbytes + flow[0].size) / 8
