import struct
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from flow_cache.coding import codec
from flow_cache.coding.codec import DecodedField, decode_field, decode_fields, encode_field
from flow_cache.coding.header import DamagedField, FieldHeader, exact_step, read_header
from flow_cache.coding.scales import LARGEST_STEP

GOLDEN = Path(__file__).parents[2] / "golden" / "flow"
DIGEST = "5c" * 32
SLACK = 1 + 2**-40  # what the encoder's float64 may round
HEAD_SIZE = 96  # its last 20 bytes are the sizes of three parts, and the round trip

Flow = np.ndarray[Any, np.dtype[np.float32]]


def encode(flow: Flow, max_error_px: float = 1 / 32, **changes: Any) -> bytes:
    visible = np.ones(flow.shape[1:], bool)
    facts = {"pair": (0, 1), "max_error_px": max_error_px, "spec_digest": DIGEST, **changes}
    return encode_field(flow, visible, **facts)


def smooth_flow(height: int = 33, width: int = 47) -> Flow:
    y, x = np.indices((height, width), dtype=np.float32)
    return np.stack((np.sin(x / 9) * 3 + y / 20, np.cos(y / 7) * 2 - x / 30)).astype(np.float32)


sizes = st.tuples(st.just(2), st.integers(1, 13), st.integers(1, 13))
errors = st.floats(2.0**-12, 2.0**4)


def flows(largest: float) -> st.SearchStrategy[Flow]:
    values = st.floats(-largest, largest, width=32)
    return sizes.flatmap(lambda shape: arrays.arrays(np.float32, shape, elements=values))


@given(flow=flows(4.0), max_error=errors)
def test_no_component_differs_by_more_than_the_stated_error(flow: Flow, max_error: float) -> None:
    decoded = decode_field(encode(flow, max_error))
    # In float64, so that the comparison itself is exact.
    difference = decoded.flow.numpy().astype(np.float64) - flow.astype(np.float64)
    assert np.abs(difference).max() <= max_error * SLACK
    assert decoded.saturated == 0


@given(flow=flows(float(np.finfo(np.float32).max)), max_error=errors)
def test_what_lies_out_of_range_is_clipped_and_counted(flow: Flow, max_error: float) -> None:
    decoded = decode_field(encode(flow, max_error))
    limit = LARGEST_STEP * exact_step(max_error)
    exact = flow.astype(np.float64)
    assert decoded.saturated == np.count_nonzero(np.abs(exact) > limit)
    difference = decoded.flow.numpy().astype(np.float64) - exact.clip(-limit, limit)
    assert np.abs(difference).max() <= max_error * SLACK


def test_mean_error_shows_no_bias() -> None:
    flow = np.random.default_rng(0).uniform(-20, 20, (2, 400, 500)).astype(np.float32)
    difference = decode_field(encode(flow)).flow.numpy().astype(np.float64) - flow
    # Rounding errors are uniform over one step: their mean has this standard deviation.
    deviation = (1 / 16) / np.sqrt(12 * difference.size)
    assert abs(difference.mean()) < 4 * deviation


@given(bits=sizes.flatmap(lambda shape: arrays.arrays(np.bool_, shape[1:])))
def test_visibility_is_exact(bits: np.ndarray) -> None:
    blob = encode_field(
        np.zeros((2, *bits.shape), np.float32),
        bits,
        pair=(3, 2),
        max_error_px=0.1,
        spec_digest=DIGEST,
    )
    assert np.array_equal(decode_field(blob).visible.numpy(), bits)


def test_a_field_explains_itself() -> None:
    blob = encode(smooth_flow(), 0.05, pair=(7, 3), round_trip_px=0.25)
    header = read_header(blob)
    assert header == FieldHeader(
        pair=(7, 3),
        size=(33, 47),
        max_error_px=0.05,
        step_px=1 / 16,
        saturated=0,
        spec_digest=DIGEST,
        round_trip_px=0.25,
    )
    decoded = decode_field(blob)
    assert all(getattr(decoded, name) == getattr(header, name) for name in header.__slots__)
    assert decoded.field.size == (33, 47)
    assert len(decoded.field) == 1


def test_torch_and_numpy_give_the_same_bytes() -> None:
    flow = smooth_flow()
    visible = torch.ones(flow.shape[1:], dtype=torch.bool)
    from_torch = encode_field(
        torch.from_numpy(flow), visible, pair=(0, 1), max_error_px=1 / 32, spec_digest=DIGEST
    )
    assert from_torch == encode(flow)


def test_memory_that_is_not_contiguous_gives_the_same_bytes() -> None:
    flow = smooth_flow()
    assert encode(flow.transpose(1, 2, 0).copy().transpose(2, 0, 1)) == encode(flow)


def rooms(count: int, size: tuple[int, int] = (33, 47)) -> tuple[list[Flow], list[np.ndarray]]:
    flow = np.full((count, 2, *size), np.nan, np.float32)
    return [*flow], [*np.ones((count, *size), bool)]


def some_fields() -> list[bytes]:
    """Of one size, still, smooth, rough and far beyond a byte of steps, with steps of their own."""
    rng = np.random.default_rng(0)
    rough = rng.normal(0, 9, (2, 33, 47)).astype(np.float32)
    flows = [np.zeros_like(rough), smooth_flow(), rough, 100 * rough]
    blobs = [encode(flow, error) for flow in flows for error in (1 / 8, 1 / 64)]
    hidden = rng.random((33, 47)) < 0.5
    facts: dict[str, Any] = {"pair": (4, 5), "max_error_px": 1.0, "spec_digest": DIGEST}
    return [*blobs, encode_field(rough, hidden, **facts)]


@pytest.mark.parametrize("at_once", [1, 2 * 33 * 47, 10**6])
def test_fields_decoded_together_are_what_each_is_alone(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "_AT_ONCE", at_once)
    blobs = some_fields()
    flow, visible = rooms(len(blobs))
    headers = decode_fields(blobs, flow, visible)
    assert headers == [read_header(blob) for blob in blobs]
    for blob, one_flow, one_visible in zip(blobs, flow, visible, strict=True):
        alone = decode_field(blob)
        assert np.array_equal(one_flow, alone.flow.numpy())
        assert np.array_equal(one_visible, alone.visible.numpy())


def test_fields_of_both_layouts_are_decoded_together() -> None:
    old = (GOLDEN / "scene.flow").read_bytes()
    first = decode_field(old)
    new = encode(first.flow.numpy() * np.float32(0.5), first.max_error_px)
    flow, visible = rooms(3, first.size)
    decode_fields([new, old, new], flow, visible)
    assert np.array_equal(flow[1], first.flow.numpy())
    for place in (0, 2):
        assert np.array_equal(flow[place], decode_field(new).flow.numpy())


def test_no_fields_are_decoded_to_nothing() -> None:
    assert decode_fields([], [], []) == []


@pytest.mark.parametrize(
    ("flow", "visible"),
    [
        (np.empty((2, 33, 48), np.float32), np.empty((33, 47), bool)),
        (np.empty((2, 33, 47)), np.empty((33, 47), bool)),
        (np.empty((2, 33, 47), np.float32), np.empty((33, 47), np.uint8)),
        (np.empty((2, 47, 33), np.float32).transpose(0, 2, 1), np.empty((33, 47), bool)),
    ],
)
@pytest.mark.usefixtures("as_in_production")
def test_a_field_goes_into_no_room_that_does_not_fit(flow: Flow, visible: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"a field of 33x47 goes into contiguous float32"):
        decode_fields([encode(smooth_flow())], [flow], [visible])


@pytest.mark.parametrize("max_error", [0.0, -1.0, 1e-9, 1e6, float("nan")])
def test_refuses_an_error_it_cannot_keep(max_error: float) -> None:
    with pytest.raises(ValueError, match="max_error_px"):
        encode(smooth_flow(), max_error)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_refuses_flow_that_is_not_finite(value: float) -> None:
    flow = smooth_flow()
    flow[1, 2, 3] = value
    with pytest.raises(ValueError, match="1 components that are not finite"):
        encode(flow)


@pytest.mark.parametrize(
    ("flow", "visible", "complaint"),
    [
        (np.zeros((4, 5, 2), np.float32), np.ones((4, 5), bool), "flow must be float32"),
        (np.zeros((2, 4, 5)), np.ones((4, 5), bool), "float64"),
        (np.zeros((2, 4, 5), np.float32), np.ones((5, 4), bool), "visible must be bool"),
        (np.zeros((2, 4, 5), np.float32), np.ones((4, 5), np.uint8), "visible must be bool"),
        (np.zeros((2, 0, 5), np.float32), np.ones((0, 5), bool), "1 to 8388608 pixels"),
    ],
)
@pytest.mark.usefixtures("as_in_production")
def test_refuses_arrays_that_are_no_field(
    flow: np.ndarray, visible: np.ndarray, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        encode_field(flow, visible, pair=(0, 1), max_error_px=1 / 32, spec_digest=DIGEST)


@pytest.mark.parametrize("digest", ["", "5c", "zz" * 32])
def test_refuses_a_digest_that_is_none(digest: str) -> None:
    with pytest.raises(ValueError, match=r"64 hex digits|non-hexadecimal"):
        encode(smooth_flow(), spec_digest=digest)


def test_every_truncation_is_an_error() -> None:
    blob = encode(smooth_flow(9, 11))
    for length in range(len(blob)):
        with pytest.raises(DamagedField, match="flow field"):
            decode_field(blob[:length])
    with pytest.raises(DamagedField, match="flow field"):
        decode_field(blob + b"\0")


@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_every_flipped_bit_is_an_error(place: int, bit: int) -> None:
    blob = bytearray(encode(smooth_flow(9, 11)))
    blob[place % len(blob)] ^= 1 << bit
    for read in (decode_field, read_header):
        with pytest.raises(DamagedField, match="flow field"):
            read(bytes(blob))


@given(data=st.binary(max_size=300))
def test_bytes_that_are_no_field_are_an_error(data: bytes) -> None:
    for blob in (data, b"FXF1" + data, b"FXF2" + data, sealed(data.ljust(90, b"\0"))):
        with pytest.raises(DamagedField, match="flow field"):
            decode_field(blob)


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("content", [b"", b"\xff" * 7, b"\xff" * 27])
def test_parts_of_the_wrong_size_are_an_error(part: int, content: bytes) -> None:
    # As a faulty writer would leave them: the checksum is right, the contents do not fit.
    blob = encode(smooth_flow(9, 11))
    head, sizes = (
        blob[8 : HEAD_SIZE - 20],
        list(struct.unpack("<3I", blob[HEAD_SIZE - 20 : -8 + HEAD_SIZE])),
    )
    ends = np.cumsum([HEAD_SIZE, *sizes])
    parts = [blob[start:end] for start, end in pairwise(ends)]
    parts[part] = zstandard.compress(content) if content else b"no zstd"
    tail = struct.pack("<3I", *map(len, parts)) + blob[HEAD_SIZE - 8 : HEAD_SIZE]
    body = head + tail + b"".join(parts)
    with pytest.raises(DamagedField, match="damaged flow field"):
        decode_field(sealed(body))


def sealed(body: bytes) -> bytes:
    return b"FXF2" + struct.pack("<I", zlib.crc32(body)) + body


@pytest.mark.parametrize("name", [path.stem for path in sorted(GOLDEN.glob("*.flow"))])
def test_fields_written_long_ago_still_decode(name: str) -> None:
    decoded = decode_field((GOLDEN / f"{name}.flow").read_bytes())
    check_golden(name, decoded.flow.numpy(), decoded.visible.numpy(), decoded)


def check_golden(name: str, flow: Flow, visible: np.ndarray, header: DecodedField) -> None:
    truth = np.load(GOLDEN / f"{name}.npz")
    of_three_scales = name.startswith("scales_")
    limit = (LARGEST_STEP if of_three_scales else 2**15 - 1) * header.step_px
    expected = np.clip(truth["flow"], -limit - header.step_px * (not of_three_scales), limit)
    assert np.abs(flow.astype(np.float64) - expected).max() <= truth["max_error_px"]
    assert np.array_equal(visible, truth["visible"])
    beyond = limit if of_three_scales else 2048
    assert header.saturated == np.count_nonzero(np.abs(truth["flow"]) > beyond)
    assert header.spec_digest == DIGEST
    assert header.round_trip_px in ((0, 0.25, 0.5, 0.75, None) if of_three_scales else (None,))


def test_there_are_golden_fields() -> None:
    names = [path.stem.startswith("scales_") for path in GOLDEN.glob("*.flow")]
    assert names.count(False) == 6
    assert names.count(True) == 7
