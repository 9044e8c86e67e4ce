"""Fields that an attacker or a faulty writer made, with checksums that are right."""

import struct
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import zstandard

from benchmarks.flow_fuzz import attack, mutants, seeds
from flow_cache.coding.codec import check_field, decode_field, encode_field
from flow_cache.coding.header import LAST_FRAME, DamagedField, read_header, relabel

SIZE = (9, 11)
MIB = 2**20


def field(**changes: Any) -> bytes:
    flow = np.zeros((2, *SIZE), np.float32)
    facts = {"pair": (0, 1), "max_error_px": 1 / 32, "spec_digest": "5c" * 32, **changes}
    return encode_field(flow, np.ones(SIZE, bool), **facts)


def forged(
    parts: dict[int, bytes] | None = None,
    size: tuple[int, int] = SIZE,
    error: float = 1 / 32,
    step: float = 1 / 16,
    saturated: int = 0,
) -> bytes:
    """A still field, with other parts and other words in its header, and a checksum to suit."""
    # The code 1 four times is U; of 9x11 there are 5 groups of four rows, of 5x6 3, of 3x3 2.
    zeros = (b"U" * (5 * 11 + 3 * 6 + 2 * 3), b"", b"\xff" * 13)
    frames = [(parts or {}).get(n, zstandard.compress(part)) for n, part in enumerate(zeros)]
    words = (0, 1, *size, error, step, saturated, bytes(32), *map(len, frames), 0.0)
    body = struct.pack("<4I2dI32s3Id", *words) + b"".join(frames)
    return b"FXF2" + struct.pack("<I", zlib.crc32(body)) + body


def peak_of(call: Callable[[], object]) -> int:
    """Bytes that Python and numpy held at once during a call."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def refused(blob: bytes, words: str) -> None:
    for read in (decode_field, check_field):
        with pytest.raises(DamagedField, match=f"damaged flow field: .*{words}"):
            read(blob)


def test_what_is_forged_here_is_sound_but_for_the_forgery() -> None:
    assert not decode_field(forged()).flow.any()
    assert decode_field(forged()).visible.all()


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_part_that_would_expand_beyond_its_field_is_refused_unexpanded(part: int) -> None:
    bomb = zstandard.compress(bytes(256 * MIB))
    assert len(bomb) < 33_000
    blob = forged({part: bomb})
    assert peak_of(lambda: refused(blob, "268435456 bytes of")) < MIB


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("stated", [2**40, 2**62])
def test_a_forged_size_is_refused_before_memory_is_asked_for(part: int, stated: int) -> None:
    # Magic, descriptor (8 bytes of content size, one segment), size, one raw block of 0 bytes.
    frame = struct.pack("<IBQ", 0xFD2FB528, 0b11100000, stated) + b"\1\0\0"
    refused(forged({part: frame}), f"{stated} bytes of")


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"no zstd",
        struct.pack("<II", 0x184D2A50, 79) + bytes(79),  # is skipped: gives nothing
        zstandard.ZstdCompressor(write_content_size=False).compress(b"U" * 79),
        zstandard.compress(b"U" * 79)[:-2],
    ],
)
def test_a_part_that_is_no_frame_of_a_stated_size_is_refused(frame: bytes) -> None:
    refused(forged({0: frame}), "")


@pytest.mark.parametrize(
    ("error", "step"),
    [
        *((1 / 32, step) for step in (0.0, -1 / 16, float("inf"), float("nan"), 1 / 15, 1 / 32)),
        *((error, 1 / 16) for error in (0.0, -1.0, float("inf"), float("nan"), 2.0**20)),
        (2.0**-30, 2.0**-29),
    ],
)
def test_a_step_that_is_not_of_its_bound_is_refused(error: float, step: float) -> None:
    blob = forged(error=error, step=step)
    refused(blob, "steps of")
    with pytest.raises(ValueError, match="steps of"):
        read_header(blob)


def test_more_saturated_components_than_there_are_is_refused() -> None:
    assert decode_field(forged(saturated=198)).saturated == 198
    refused(forged(saturated=199), "199 components saturated")


@pytest.mark.parametrize("size", [(0, 11), (2**31, 2**31), (2**32 - 1, 1), (1, 2**23 + 1)])
def test_a_geometry_that_no_field_has_is_refused(size: tuple[int, int]) -> None:
    refused(forged(size=size), "size ")


@pytest.mark.parametrize("number", [-1, LAST_FRAME + 1])
def test_a_frame_number_out_of_range_is_named_with_its_limit(number: int) -> None:
    with pytest.raises(ValueError, match=rf"{number}.*from 0 to 4294967295"):
        field(pair=(0, number))
    with pytest.raises(ValueError, match=rf"{number}.*from 0 to 4294967295"):
        relabel(field(), (number, 0))
    assert read_header(relabel(field(), (LAST_FRAME, 0))).pair == (LAST_FRAME, 0)


def test_checking_finds_what_decoding_would() -> None:
    assert check_field(field()) == read_header(field())


def test_memory_is_that_of_the_stated_size() -> None:
    """A field of zeros, which is what few bytes can expand to."""
    flow, visible = np.zeros((2, 512, 1024), np.float32), np.ones((512, 1024), bool)
    blob = encode_field(flow, visible, pair=(0, 1), max_error_px=1 / 32, spec_digest="00" * 32)
    assert len(blob) < 1000
    assert peak_of(lambda: check_field(blob)) < 2 * 512 * 1024
    assert peak_of(lambda: decode_field(blob)) < 24 * 512 * 1024


@pytest.mark.usefixtures("as_in_production")  # checked annotations take most of a run
def test_a_few_thousand_mutants() -> None:
    tally = attack(mutants(seeds(), seed=0), 2000)
    assert not tally.failures
    assert tally.outcomes["decoded"] > 150
    assert tally.outcomes["refused"] > 1000
    assert tally.worst_ratio <= 1
