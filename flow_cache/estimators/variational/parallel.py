"""Independent pictures on several cores, each on a single thread.

Sharing every small operation between torch's threads, as torch does by itself, makes them wait for
each other thousands of times per picture, and for their slowest: on a busy machine that costs a
hundred times more than it gains. Gradients are no exception: autograd works through a graph on one
thread, whose operations torch shares, wherever the graph was made.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Result = TypeVar("Result")
Part = tuple[Tensor, ...]  # matching items of the batches


def spread(function: Callable[..., Result], *batches: Tensor, largest: int) -> list[Result]:
    """`function` of matching parts of the batches, of at most `largest` items, in their order.

    On a CPU parts run side by side, on as many threads as torch may use.
    """
    return side_by_side(lambda part: function(*part), _parts(batches, largest), _threads(batches))


def spread_with_gradient(function: Callable[..., Tensor], *batches: Tensor, largest: int) -> Tensor:
    """As `spread`, the results joined; where they carry a gradient, it is spread in the same way.

    There must be an item. The gradient has none of its own.
    """
    wanted = torch.is_grad_enabled() and any(batch.requires_grad for batch in batches)
    if wanted and _threads(batches) > 1:
        joined: Tensor = _Spread.apply(function, largest, *batches)
        return joined
    return torch.cat(spread(function, *batches, largest=largest))


def side_by_side(
    function: Callable[[Part], Result], parts: Sequence[Part], threads: int
) -> list[Result]:
    """`function` of each part, on so many threads, each of which torch gives one alone."""
    if threads == 1 or not parts:
        return [function(part) for part in parts]
    gradient = torch.is_grad_enabled()  # every thread has its own switch, and its own thread count

    def run(part: Part) -> Result:
        with torch.set_grad_enabled(gradient):
            return function(part)

    before = torch.get_num_threads()
    try:
        workers = min(threads, len(parts))
        with ThreadPoolExecutor(workers, "flow", torch.set_num_threads, (1,)) as pool:
            return list(pool.map(run, parts))
    finally:
        torch.set_num_threads(before)  # also what threads made later start with


def _threads(batches: Sequence[Tensor]) -> int:
    """How many parts to work on at once: one beside an accelerator, which has cores of its own."""
    alone = batches[0].device.type != "cpu" or torch.compiler.is_compiling()
    return 1 if alone else torch.get_num_threads()


def _parts(batches: Sequence[Tensor], largest: int) -> list[Part]:
    size = max(1, min(largest, -(-len(batches[0]) // _threads(batches))))
    parts = zip(*(batch.split(size) for batch in batches), strict=True)
    return [part for part in parts if len(part[0])]


class _Spread(torch.autograd.Function):
    """Parts with a graph each, which the backward pass works through side by side.

    What is saved are each part's inputs and its result, which holds its graph: both live as long
    as autograd lets what is saved live.
    """

    @staticmethod
    def forward(
        ctx: Any, function: Callable[..., Tensor], largest: int, *batches: Tensor
    ) -> Tensor:
        wanted = ctx.needs_input_grad[2:]

        def run(part: Part) -> Part:
            inputs = [x.detach().requires_grad_(w) for x, w in zip(part, wanted, strict=True)]
            return *inputs, function(*inputs)

        ctx.threads = _threads(batches)
        with torch.enable_grad():
            done = side_by_side(run, _parts(batches, largest), ctx.threads)
        ctx.save_for_backward(*(x for part in done for x in part))
        return torch.cat([part[-1].detach() for part in done])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        wanted, saved = ctx.needs_input_grad[2:], ctx.saved_tensors
        step = len(wanted) + 1
        parts = [saved[start : start + step] for start in range(0, len(saved), step)]
        grads = grad.split([len(part[-1]) for part in parts])

        def run(part: Part) -> Part:
            *inputs, result, upstream = part
            leaves = [x for x, w in zip(inputs, wanted, strict=True) if w]
            return torch.autograd.grad(result, leaves, upstream, retain_graph=True)

        given = [(*part, upstream) for part, upstream in zip(parts, grads, strict=True)]
        found = zip(*side_by_side(run, given, ctx.threads), strict=True)
        joined = iter([torch.cat(pieces) for pieces in found])
        return None, None, *(next(joined) if w else None for w in wanted)
