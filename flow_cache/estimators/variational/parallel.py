"""Independent pictures on several cores, each on a single thread.

Sharing every small operation between torch's threads, as torch does by itself, makes them wait for
each other thousands of times per picture, and for their slowest: on a busy machine that costs a
hundred times more than it gains.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")


def spread(function: Callable[..., Result], *batches: Tensor, largest: int) -> list[Result]:
    """`function` of matching parts of the batches, of at most `largest` items, in their order.

    On a CPU parts run side by side, on as many threads as torch may use.
    """
    alone = batches[0].is_cuda or torch.compiler.is_compiling()
    threads = 1 if alone else torch.get_num_threads()
    size = max(1, min(largest, -(-len(batches[0]) // threads)))
    parts = [part for part in zip(*(x.split(size) for x in batches), strict=True) if len(part[0])]
    if threads == 1 or not parts:
        return [function(*part) for part in parts]
    gradient = torch.is_grad_enabled()  # every thread has its own switch, and its own thread count

    def run(part: tuple[Tensor, ...]) -> Result:
        with torch.set_grad_enabled(gradient):
            return function(*part)

    workers = min(threads, len(parts))
    try:
        with ThreadPoolExecutor(workers, "flow", torch.set_num_threads, (1,)) as pool:
            return list(pool.map(run, parts))
    finally:
        torch.set_num_threads(threads)  # also what threads made later start with
