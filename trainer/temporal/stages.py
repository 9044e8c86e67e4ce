"""The stages of the temporal pyramid (TPDiff, arXiv 2503.09566): fewer frames where it is noisy.

Stage k runs at stride 2^(k-1) over the noise levels from its clean end e_k to its noisy start s_k;
`trainer.process.pyramid` has the path between them. From stage to stage frames are repeated and
correlated noise is added (section 3.5); its covariance comes out right only where e_{k+1} = s_k/√2,
which fixes the starts. The coarsest stage starts at pure noise.
"""

import math
from dataclasses import dataclass

from trainer.config import PyramidConfig
from trainer.process.pyramid import NoiseInterval


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """What the samples of one batch have in common.

    Attributes:
        number: 1 is the full rate.
        stride: slots of the full rate from slot to slot.
        interval: the noise levels that the stage trains on.
    """

    number: int
    stride: int
    interval: NoiseInterval


def stages(config: PyramidConfig) -> tuple[Stage, ...]:
    """The stages from full rate down; without a pyramid one stage, the plain process."""
    ends = config.ends if config.enabled else (0.0,)
    starts = [math.sqrt(2) * end for end in ends[1:]] + [math.inf]
    return tuple(
        Stage(number=k + 1, stride=2**k, interval=NoiseInterval(end=end, start=start))
        for k, (end, start) in enumerate(zip(ends, starts, strict=True))
    )
