"""Codes and escapes against the description in docs/flow-format.md, done naively."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from flow_cache.coding.residual import ESCAPE, pack, predict, unpack

SIZES = st.tuples(st.just(2), st.integers(1, 7), st.integers(1, 9))
STEPS = arrays.arrays(np.int16, SIZES, elements=st.integers(-(2**15), 2**15 - 1))
GENTLE = arrays.arrays(np.int16, SIZES, elements=st.integers(-2, 2))


@given(STEPS | GENTLE)
def test_unpacking_undoes_packing(steps: np.ndarray) -> None:
    codes, escapes = pack(predict(steps))
    unpacked = unpack(codes.reshape(1, -1), [escapes.ravel()], steps.shape[1:])
    np.testing.assert_array_equal(unpacked[0], steps)


@given(STEPS | GENTLE)
def test_codes_are_those_of_the_description(steps: np.ndarray) -> None:
    _, height, width = steps.shape
    padded = np.pad(steps.astype(int), ((0, 0), (1, 0), (1, 0)))
    left, up, corner = padded[:, 1:, :-1], padded[:, :-1, 1:], padded[:, :-1, :-1]
    residuals = (steps - (left + up - corner)).reshape(2 * height, width)
    residuals = np.pad(residuals, ((0, -2 * height % 4), (0, 0)))
    residuals = (residuals + 2**15) % 2**16 - 2**15
    codes, escapes = pack(predict(steps))
    expected = []
    for row, column in np.ndindex(codes.shape):
        four = residuals[4 * row : 4 * row + 4, column]
        if set(four) <= {-1, 0, 1}:
            assert codes[row, column] == sum(4**i * (r + 1) for i, r in enumerate(four))
        else:
            assert codes[row, column] == ESCAPE
            expected.append((four + 128) % 2**16)
    low_and_high = np.array(expected, int).reshape(-1, 4)
    np.testing.assert_array_equal(escapes, [low_and_high & 255, low_and_high >> 8])


@pytest.mark.parametrize(
    ("codes", "escapes", "complaint"),
    [(5, 0, "5 bytes of codes for a field of 2x3"), (3, 8, "8 bytes for 0 escapes")],
)
def test_sizes_that_do_not_fit_are_refused(codes: int, escapes: int, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        unpack(np.zeros((1, codes), np.uint8), [np.zeros(escapes, np.uint8)], (2, 3))
