"""Three scales against the description in docs/flow-format.md, done naively."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from flow_cache.coding.residual import ESCAPE
from flow_cache.coding.scales import (
    LARGEST_STEP,
    clip_to_range,
    code_bytes,
    enlarge,
    escape_counts,
    pack_scales,
    scale_sizes,
    unpack_scales,
)

SLACK = 1 + 2**-40  # what the encoder's float64 may round
SIZES = st.tuples(st.just(2), st.integers(1, 11), st.integers(1, 11))
STEPS = SIZES.flatmap(
    lambda shape: arrays.arrays(
        np.float32, shape, elements=st.floats(-LARGEST_STEP, LARGEST_STEP, width=32)
    )
)


def unpacked(steps: np.ndarray, step: float = 1.0) -> np.ndarray:
    codes, escapes = (np.frombuffer(part, np.uint8) for part in pack_scales(steps))
    flow = np.empty(steps.shape, np.float32)
    unpack_scales(codes[None], [escapes], [step], [flow])
    return flow


@given(STEPS)
def test_no_component_is_off_by_more_than_half_a_step(steps: np.ndarray) -> None:
    assert np.abs(unpacked(steps).astype(np.float64) - steps).max() <= 0.5 * SLACK


@given(STEPS)
def test_a_reader_s_arithmetic_is_exact(steps: np.ndarray) -> None:
    """Scaled by 2^10, all that is read is a whole number that float32 can hold."""
    scaled = unpacked(steps, 2.0**10)
    assert (scaled == np.rint(scaled)).all()
    assert np.abs(scaled).max() <= 2**24


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (4, 6)])
def test_enlarging_is_bilinear_between_pixel_centres(size: tuple[int, int]) -> None:
    small = np.random.default_rng(0).integers(-9, 9, (2, -(-size[0] // 2), -(-size[1] // 2)))
    padded = np.pad(small, ((0, 0), (1, 1), (1, 1)), mode="edge")
    for y, x in np.ndindex(size):
        near, far = (y // 2 + 1, x // 2 + 1), (y // 2 + 2 * (y % 2), x // 2 + 2 * (x % 2))
        expected = (
            9 * padded[:, near[0], near[1]]
            + 3 * padded[:, near[0], far[1]]
            + 3 * padded[:, far[0], near[1]]
            + padded[:, far[0], far[1]]
        ) / 16
        found = enlarge(small.astype(np.float32), size)[:, y, x]
        np.testing.assert_array_equal(found, expected)


def test_scales_halve_and_round_up() -> None:
    assert scale_sizes((9, 12)) == [(3, 3), (5, 6), (9, 12)]
    assert code_bytes((9, 12)) == 2 * 3 + 3 * 6 + 5 * 12


def test_smooth_flow_costs_less_than_its_pixels_would() -> None:
    """Rounded pixels of a gentle slope differ from their neighbours; what is predicted does not."""
    y, x = np.indices((64, 96), dtype=np.float32)
    codes, _ = pack_scales(np.stack((x / 7, y / 5 - x / 9)))
    finest = np.frombuffer(codes, np.uint8)[-2 * 16 * 96 :]
    assert (finest == 0b01010101).mean() > 0.9


def test_what_lies_beyond_the_range_is_clipped_and_counted() -> None:
    flow = np.array([0.25, 1e9, -3e38, 4096.0, -4096.5], np.float32)
    steps, clipped = clip_to_range(np.broadcast_to(flow, (2, 1, 5)), 0.5)
    assert steps[0, 0].tolist() == [0.5, LARGEST_STEP, -LARGEST_STEP, LARGEST_STEP, -LARGEST_STEP]
    assert clipped == 2 * 3


@pytest.mark.parametrize(
    ("codes", "escapes", "complaint"),
    [(5, 0, "5 bytes of codes for a field of 2x3"), (6, 8, "8 bytes for 0 escapes")],
)
def test_sizes_that_do_not_fit_are_refused(codes: int, escapes: int, complaint: str) -> None:
    room = np.empty((2, 2, 3), np.float32)
    with pytest.raises(ValueError, match=complaint):
        unpack_scales(np.zeros((1, codes), np.uint8), [np.zeros(escapes, np.uint8)], [0.5], [room])


def test_escapes_are_counted_by_scale() -> None:
    codes = np.zeros(code_bytes((9, 12)), np.uint8)  # 6, 18 and 60 of the three scales
    codes[[5, 6, 7, 24, 25, 83]] = ESCAPE
    assert escape_counts(codes, (9, 12)) == [1, 2, 3]
