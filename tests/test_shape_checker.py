"""Shapes in annotations are checked here, and only here."""

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float, TypeCheckError, UInt8
from torch import Tensor

from flow_cache.algebra import length, warp
from flow_cache.coding.residual import pack
from flow_cache.field import FlowField
from shards.clip_video import encode_clip
from tests.shape_checker import checked

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    "call",
    [
        lambda: length(torch.zeros(1, 3, 4, 5)),
        lambda: length(torch.zeros(1, 2, 4, 5, dtype=torch.int64)),
        lambda: warp(torch.zeros(2, 3, 4, 5), torch.zeros(1, 2, 4, 5)),
        lambda: pack(np.zeros((2, 4, 5), np.int32)),
        lambda: FlowField(flow=torch.zeros(1, 2, 4, 5), visible=torch.ones(1, 5, 4).bool()),
        lambda: encode_clip(np.zeros((5, 32, 32, 3), np.uint8), Fraction(8)),
    ],
)
def test_wrong_arrays_do_not_pass(call: Callable[[], Any]):
    with pytest.raises(TypeCheckError, match=r"Expected type: .*(Tensor|ndarray)"):
        call()


def test_results_are_checked():
    @checked
    def halved(image: Float[Tensor, "h w"]) -> UInt8[Tensor, "h w"]:
        return image / 2

    with pytest.raises(Exception, match=r"halved.* return"):
        halved(torch.zeros(2, 3))


def test_what_is_no_array_is_left_to_mypy():
    @checked
    def scaled(image: Float[Tensor, "h w"], factor: float) -> "Tensor":
        return image * factor

    assert scaled(torch.ones(2, 3), 2).eq(2).all()  # an int for a float


def test_nothing_is_checked_outside_the_tests():
    code = (
        "import sys, torch; from flow_cache.algebra import length; "
        "assert length(torch.zeros(1, 3, 4, 5)).shape == (1, 4, 5); "
        "assert 'beartype' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
