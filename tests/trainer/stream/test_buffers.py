"""Memory is lent again when nobody holds what lay in it, and not before."""

import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trainer.stream.buffers import Buffers

SHAPE = (4, 3, 100, 100)


def address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bool])
def test_a_tensor_is_whole_and_has_the_dtype(dtype: torch.dtype):
    tensor = Buffers().empty(*SHAPE, dtype=dtype)
    assert (tensor.shape, tensor.dtype, tensor.is_contiguous()) == (SHAPE, dtype, True)
    assert tensor.data_ptr() % 64 == 0
    assert tensor.fill_(1).sum() == tensor.numel()


def test_memory_that_nobody_holds_is_lent_again():
    buffers = Buffers()
    first = address(buffers.empty(*SHAPE, dtype=torch.uint8))
    assert address(buffers.empty(*SHAPE, dtype=torch.uint8)) == first
    assert address(buffers.empty(4, 3, 100, 104, dtype=torch.uint8)) == first


@pytest.mark.parametrize(
    "kept",
    [
        lambda tensor: tensor,
        lambda tensor: tensor[1:2, :, 5],
        lambda tensor: tensor.view(torch.int16).permute(3, 2, 1, 0),
        lambda tensor: tensor.numpy()[2],
        lambda tensor: memoryview(tensor[0].numpy()),
        lambda tensor: np.from_dlpack(tensor),
        lambda tensor: tensor.float().requires_grad_() * tensor,  # held by the graph alone
        lambda tensor: iter(tensor),
    ],
)
def test_memory_of_which_something_is_held_is_not_lent_again(kept: Callable[[Tensor], Any]):
    buffers = Buffers()
    tensor = buffers.empty(*SHAPE, dtype=torch.uint8)
    first, held = address(tensor), kept(tensor)
    del tensor
    assert address(buffers.empty(*SHAPE, dtype=torch.uint8)) != first
    del held
    gc.collect()
    others = [buffers.empty(*SHAPE, dtype=torch.uint8) for _ in range(2)]
    assert first in map(address, others)


def test_no_more_lies_idle_than_was_in_use():
    buffers = Buffers()
    for exponent in range(17, 24):
        lent = [buffers.empty(2**exponent, dtype=torch.uint8) for _ in range(2)]
        del lent
    buffers.empty(2**17, dtype=torch.uint8)
    assert 2**23 <= sum(block.nbytes for block in buffers._idle) <= 2 * 2**23


def test_small_tensors_are_torch_s_own():
    buffers = Buffers()
    buffers.empty(8, dtype=torch.float32)
    assert not buffers._returned


def test_threads_never_share_memory():
    buffers = Buffers()

    def use(number: int) -> bool:
        alike = True
        for round_number in range(200):
            tensor = buffers.empty(100_000 + 1000 * number, dtype=torch.uint8)
            tensor.fill_((number + round_number) % 256)
            alike &= bool((tensor == (number + round_number) % 256).all())
        return alike

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(use, range(4)))


def test_what_is_lent_outlives_the_lender():
    tensor = Buffers().empty(*SHAPE, dtype=torch.uint8).fill_(3)
    gc.collect()
    assert (tensor == 3).all()
