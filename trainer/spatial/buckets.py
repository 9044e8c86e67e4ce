"""Which bucket a clip goes to: the one of which it fills most, or all that it fills.

A clip fills a bucket if it has its frames and its size: nothing is repeated or made larger. What
counts is the share of the clip that is shown: of its picture, times of its frames.
"""

from collections import Counter

import numpy as np
from jaxtyping import Bool, Int

from trainer.config import Bucket, StreamConfig

SHORT, SMALL = "too short for every bucket", "too small for every bucket"
NEITHER = "too short for some buckets and too small for the others"
_DIGITS = 9  # shares that differ beyond are equal

Lengths = Int[np.ndarray, " n"]


def members(
    frames: Lengths, heights: Lengths, widths: Lengths, config: StreamConfig
) -> Bool[np.ndarray, "k n"]:
    """Whether each clip is in each bucket of the configuration.

    Of buckets of which a clip shows the same share the larger one has it, then the first.
    """
    shares = np.stack([_share(frames, heights, widths, b, config) for b in config.shapes])
    if config.fill == "all":
        return shares > 0
    by_volume = np.argsort([-_volume(bucket) for bucket in config.shapes], kind="stable")
    best = by_volume[shares[by_volume].round(_DIGITS).argmax(axis=0)]
    return (best == np.arange(len(shares))[:, None]) & (shares > 0)


def dropped(
    frames: Lengths, heights: Lengths, widths: Lengths, config: StreamConfig
) -> Counter[str]:
    """How many clips fill no bucket, by reason."""
    long = np.stack([frames >= bucket.frames for bucket in config.shapes])
    large = np.stack([_holds(heights, widths, bucket) for bucket in config.shapes])
    short, small = ~long.any(axis=0), ~large.any(axis=0)
    neither = ~(long & large).any(axis=0) & ~short & ~small
    reasons = {SHORT: short, SMALL: small & ~short, NEITHER: neither}
    return Counter({reason: int(those.sum()) for reason, those in reasons.items() if those.any()})


def _share(
    frames: Lengths, heights: Lengths, widths: Lengths, bucket: Bucket, config: StreamConfig
) -> np.ndarray:
    """Of each clip that is shown in a bucket; 0 where it does not fill it."""
    height, width = bucket.size or (1, 1)
    scale = np.minimum(heights / height, widths / width) if config.resize else 1.0
    area = scale**2 * height * width / (heights * widths)
    fills = (frames >= bucket.frames) & _holds(heights, widths, bucket)
    return np.where(fills, area * bucket.frames / np.maximum(frames, 1), 0.0)


def _holds(heights: Lengths, widths: Lengths, bucket: Bucket) -> Bool[np.ndarray, " n"]:
    height, width = bucket.size or (1, 1)
    return (heights >= height) & (widths >= width)


def _volume(bucket: Bucket) -> int:
    height, width = bucket.size or (1, 1)
    return height * width * bucket.frames
