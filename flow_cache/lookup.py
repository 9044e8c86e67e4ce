"""Flow between any two frames of a clip, from the pairs that are stored."""

import heapq
from collections import defaultdict
from collections.abc import Collection, Mapping
from functools import reduce
from itertools import pairwise

import torch

from flow_cache.algebra import compose
from flow_cache.field import FlowField
from flow_cache.spec import Pair


def hops(i: int, j: int, stored: Collection[Pair]) -> list[Pair]:
    """Stored pairs that lead from frame i to frame j in the fewest steps; [] if i == j.

    Errors add up with every composition, so fewer steps are better; of equally many, those that
    pass over the fewest frames are taken (0-4-6-7 rather than 0-4-8-7).

    Raises:
        ValueError: no chain of stored pairs leads there.
    """
    onward: dict[int, list[int]] = defaultdict(list)
    for source, target in stored:
        onward[source].append(target)
    queue: list[tuple[int, int, tuple[int, ...]]] = [(0, 0, (i,))]  # steps, frames passed, way
    done = set()
    while queue:
        steps, passed, way = heapq.heappop(queue)
        here = way[-1]
        if here == j:
            return list(pairwise(way))
        if here in done:
            continue
        done.add(here)
        for there in onward[here]:
            heapq.heappush(queue, (steps + 1, passed + abs(there - here), (*way, there)))
    raise ValueError(f"no chain of stored pairs leads from frame {i} to frame {j}")


def flow_between(i: int, j: int, fields: Mapping[Pair, FlowField]) -> FlowField:
    """Flow (n = 1) from frame i to frame j, composed through the stored fields.

    Zero and visible everywhere if i == j.

    Raises:
        ValueError: no fields at all, or none that lead from i to j.
    """
    if not fields:
        raise ValueError("no stored fields to compose from")
    chain = [fields[pair] for pair in hops(i, j, fields)]
    if chain:
        return reduce(compose, chain)
    some = next(iter(fields.values()))
    visible = torch.ones_like(some.visible[:1])
    return FlowField(flow=torch.zeros_like(some.flow[:1]), visible=visible)


def reverse(fields: Mapping[Pair, FlowField], frames: int) -> dict[Pair, FlowField]:
    """The fields of the same clip of `frames` frames played backwards."""
    last = frames - 1
    return {(last - i, last - j): field for (i, j), field in fields.items()}
