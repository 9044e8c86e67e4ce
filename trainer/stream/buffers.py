"""Memory for batches, used again as soon as nobody holds the tensors that lay in it.

A batch of new memory costs a page fault for every 4 kB of it, which takes as long as a quarter of
the decoding that fills it. Whoever keeps a tensor, a view of it or an array made of it keeps its
memory too: a consumer cannot get it wrong.
"""

import math
import threading
import weakref
from collections import deque

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

Block = UInt8[np.ndarray, " bytes"]
_SMALLEST = 2**16  # what is smaller comes from memory that was used before anyhow


class Buffers:
    """Uninitialised tensors in memory that is used again; safe for threads.

    At most as many bytes lie idle as were in use at one time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._returned: deque[Block] = deque()  # by finalizers, which may run at any place
        self._idle: deque[Block] = deque()  # the longest idle first
        self._used = self._most_used = 0

    def empty(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """A contiguous tensor on the CPU, of any content."""
        size = math.prod(shape) * dtype.itemsize
        if size < _SMALLEST:
            return torch.empty(shape, dtype=dtype)
        block = self._take(1 << (size - 1).bit_length())  # so that sizes that are alike share
        # The tensor's memory holds this one view, which dies with the last that refers to it.
        lent = block[:size]
        weakref.finalize(lent, self._returned.append, block).atexit = False
        return torch.from_numpy(lent).view(dtype).view(shape)

    def _take(self, size: int) -> Block:
        with self._lock:
            while self._returned:
                self._used -= self._returned[0].nbytes
                self._idle.append(self._returned.popleft())
            fitting = [place for place, block in enumerate(self._idle) if block.nbytes == size]
            self._used += size
            self._most_used = max(self._most_used, self._used)
            if fitting:
                block = self._idle[fitting[-1]]  # the latest may still be in the cache
                del self._idle[fitting[-1]]
            else:
                block = torch.empty(size, dtype=torch.uint8).numpy()  # aligned as torch likes
            while sum(idle.nbytes for idle in self._idle) > self._most_used:
                self._idle.popleft()
            return block
