"""An estimator's `pair` compiled, for losses that call it at every step."""

from collections.abc import Callable

import torch

from flow_cache.field import Flow, Images

Pairwise = Callable[[Images, Images], Flow]


def compiled(pair: Pairwise, backend: str = "inductor") -> Pairwise:
    """`pair` as one graph of few, large kernels; it rounds otherwise than `pair` itself.

    Compiling takes minutes, for each power of two: to that, the number of pairs is filled up with
    still ones.

    Args:
        pair: of an estimator that torch can trace; else the call raises what torch does.
        backend: of `torch.compile`.
    """
    graph = torch.compile(pair, fullgraph=True, dynamic=False, backend=backend)

    def run(first: Images, second: Images) -> Flow:
        n = len(first)
        more = (1 << (n - 1).bit_length()) - n if n else 0
        first, second = (torch.cat([x, x.new_zeros(more, *x.shape[1:])]) for x in (first, second))
        return graph(first, second)[:n]

    return run
