"""FluxFlow: shuffle a few frames, or blocks of frames, of each training clip (arXiv 2503.15417).

The shuffled clip is the diffusion target itself; the caption stays as it is (section 3.2).
A shuffle is a permutation of slots: slot i shows what slot shuffle[i] showed.

At the full rate every clip has the paper's whole number of units shuffled. A slower stage has fewer
slots, where that number would be too large a share and a smaller one no whole number: it shuffles
now one unit more, now one less or none, so that the expected share of moved slots is the full
rate's.
"""

import math
from fractions import Fraction

import numpy as np
from jaxtyping import Int64

from trainer.config import FluxFlowConfig
from trainer.config.temporal import slots_at

Shuffle = Int64[np.ndarray, " t"]


def draw_shuffle(
    rng: np.random.Generator, config: FluxFlowConfig, frames: int, stride: int = 1
) -> Shuffle:
    """The shuffle of one clip of `frames` frames seen at a stride."""
    order = np.arange(slots_at(frames, stride), dtype=np.int64)
    if config.mode == "off":
        return order
    count = draw_count(rng, config.dose(frames, stride), config.derangement)
    units, block = config.units(frames, stride)
    first = len(order) - units * block if config.remainder == "head" else 0
    end = first + units * block
    order[first:end] = first + shuffle_blocks(
        rng, units * block, block, count, derangement=config.derangement
    )
    return order


def draw_count(rng: np.random.Generator, dose: Fraction, derangement: bool) -> int:
    """How many units to choose, 0 or at least 2, so that `dose` of them are expected to move.

    m chosen units move m - 1 on average, or m where all must move. A whole dose of 1 (2) or more
    is met in every clip, without a random number.
    """
    still = 0 if derangement else 1
    least = 2 - still  # moved by a shuffle of two
    if dose < least:
        return 2 * int(rng.random() < dose / least)
    whole = math.floor(dose)
    more = dose > whole and rng.random() < dose - whole
    return whole + still + int(more)


def shuffle_frames(
    rng: np.random.Generator, slots: int, count: int, *, derangement: bool = False
) -> Shuffle:
    """Algorithm 1, frame level: `count` random frames shuffled among their own positions."""
    chosen = np.sort(rng.choice(slots, size=count, replace=False))
    order = np.arange(slots, dtype=np.int64)
    order[chosen] = chosen[_any_order(rng, count, derangement)]
    return order


def shuffle_blocks(
    rng: np.random.Generator, slots: int, block: int, count: int, *, derangement: bool = False
) -> Shuffle:
    """Algorithm 1, block level: `count` random blocks of `block` slots trade places.

    Blocks are cut from the start; frames inside a block keep their order, and the slots % block
    frames at the tail belong to no block and stay.
    """
    blocks = slots // block
    moved = shuffle_frames(rng, blocks, count, derangement=derangement)
    inside = (moved[:, None] * block + np.arange(block)).reshape(-1)
    return np.concatenate([inside, np.arange(blocks * block, slots)]).astype(np.int64)


def _any_order(rng: np.random.Generator, count: int, derangement: bool) -> np.ndarray:
    """A uniform permutation of `count` items; without fixed items if `derangement`."""
    order = rng.permutation(count)
    while derangement and count > 1 and (order == np.arange(count)).any():
        order = rng.permutation(count)  # about 1 in e is accepted
    return order
