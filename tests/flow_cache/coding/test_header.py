import struct
import zlib

import numpy as np
import pytest

from flow_cache.coding.codec import encode_field
from flow_cache.coding.header import exact_step, read_header, relabel

FLOW = np.linspace(-3, 3, 2 * 5 * 7, dtype=np.float32).reshape(2, 5, 7)


def encode(pair: tuple[int, int] = (0, 1), round_trip_px: float | None = None) -> bytes:
    return encode_field(
        FLOW,
        np.ones((5, 7), bool),
        pair=pair,
        max_error_px=1 / 8,
        spec_digest="5c" * 32,
        round_trip_px=round_trip_px,
    )


@pytest.mark.parametrize(
    ("max_error", "step"),
    [(1 / 32, 1 / 16), (0.03, 1 / 32), (0.05, 1 / 16), (1.0, 2.0), (0.99, 1.0), (1024.0, 2048.0)],
)
def test_step_is_a_power_of_two_within_twice_the_error(max_error: float, step: float) -> None:
    assert exact_step(max_error) == step


def test_relabelling_changes_the_pair_alone() -> None:
    assert relabel(encode((0, 1), 0.5), (40, 41)) == encode((40, 41), 0.5)


@pytest.mark.parametrize("length", [None, 0.0, 0.037])
def test_the_round_trip_is_kept_or_unknown(length: float | None) -> None:
    assert read_header(encode(round_trip_px=length)).round_trip_px == length


@pytest.mark.parametrize("length", [-1.0, float("inf"), float("-inf")])
def test_a_round_trip_of_no_length_is_refused(length: float) -> None:
    blob = bytearray(encode())
    struct.pack_into("<d", blob, 88, length)
    struct.pack_into("<I", blob, 4, zlib.crc32(blob[8:]))
    with pytest.raises(ValueError, match="damaged flow field: a round trip of"):
        read_header(bytes(blob))
