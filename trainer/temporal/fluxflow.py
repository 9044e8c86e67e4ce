"""FluxFlow: shuffle a few frames, or blocks of frames, of each training clip (arXiv 2503.15417).

The shuffled clip is the diffusion target itself; the caption stays as it is (section 3.2).
Everything here is a permutation of slots: slot i shows what slot permutation[i] showed.
"""

import math

import numpy as np

from trainer.config import FluxFlowConfig


def permutation(rng: np.random.Generator, slots: int, config: FluxFlowConfig) -> np.ndarray:
    """The permutation of one clip's slots that `config` asks for, int64 [slots]."""
    if config.mode == "off":
        return np.arange(slots, dtype=np.int64)
    block = 1 if config.mode == "frame" else config.block
    blocks = slots // block
    count = shuffled_count(blocks, config)
    return block_permutation(rng, slots, block, count, derangement=config.derangement)


def shuffled_count(units: int, config: FluxFlowConfig) -> int:
    """How many of `units` frames or blocks take part: `config.count`, else ⌊ratio·units⌋.

    The ratio may be a rounded quotient (49·(2/49) is 1.999… or 2), hence the small allowance before
    the floor. One unit alone cannot be shuffled, so a derived count of 1 becomes 2. A count above
    the number of units is cut to it: low pyramid stages have few slots.
    """
    if config.count is not None:
        return min(config.count, units)
    derived = math.floor(config.ratio * units + 1e-6)
    return min(2, units) if derived == 1 else derived


def frame_permutation(
    rng: np.random.Generator, slots: int, count: int, *, derangement: bool = False
) -> np.ndarray:
    """Algorithm 1, frame level: `count` random frames shuffled among their own positions."""
    chosen = np.sort(rng.choice(slots, size=count, replace=False))
    order = np.arange(slots, dtype=np.int64)
    order[chosen] = chosen[_shuffle(rng, count, derangement)]
    return order


def block_permutation(
    rng: np.random.Generator, slots: int, block: int, count: int, *, derangement: bool = False
) -> np.ndarray:
    """Algorithm 1, block level: `count` random blocks of `block` frames trade places.

    Blocks are cut from the start; frames inside a block keep their order, and the slots % block
    frames at the tail belong to no block and stay.
    """
    blocks = slots // block
    moved = frame_permutation(rng, blocks, count, derangement=derangement)
    inside = (moved[:, None] * block + np.arange(block)).reshape(-1)
    return np.concatenate([inside, np.arange(blocks * block, slots)]).astype(np.int64)


def _shuffle(rng: np.random.Generator, count: int, derangement: bool) -> np.ndarray:
    """A uniform permutation of `count` items; without fixed items if `derangement`."""
    order = rng.permutation(count)
    while derangement and count > 1 and (order == np.arange(count)).any():
        order = rng.permutation(count)  # about 1 in e is accepted
    return order
