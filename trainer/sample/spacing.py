"""The noise levels that the steps of a stage go through: of equal length, as the process counts."""

import math

import numpy as np
from jaxtyping import Float64

from trainer.config import ProcessConfig
from trainer.process.build import build_process
from trainer.process.ddim import ladder

Path = Float64[np.ndarray, " n"]

_RHO = 7  # of equation 5 in EDM, arXiv 2206.00364


def spaced(config: ProcessConfig, start: float, end: float, steps: int) -> Path:
    """Levels from `start`, or the process's highest, to `end`; one more than there are steps.

    edm: equal in σ^(1/7), and where the end is 0 the last step goes there from the law's lowest
    level. flow: equal in t before the shift. ddim: equal in timesteps, with 0 one below the first.
    """
    law = build_process(config).law
    start = min(start, law.highest)
    match config.kind:
        case "edm" if end == 0:
            return np.append(_rooted(start, law.lowest, steps - 1), 0.0)
        case "edm":
            return _rooted(start, end, steps)
        case "flow":
            return _shifted(start, end, steps, config.shift)
        case "ddim":
            return _stepped(start, end, steps, np.append(0.0, ladder(config.betas).numpy()))


def _rooted(start: float, end: float, steps: int) -> Path:
    roots = np.linspace(start ** (1 / _RHO), end ** (1 / _RHO), steps + 1)
    return _between(start, roots**_RHO, end)


def _shifted(start: float, end: float, steps: int, shift: float) -> Path:
    high, low = (1.0 if math.isinf(level) else level / (shift + level) for level in (start, end))
    t = np.linspace(high, low, steps + 1)[1:-1]
    return np.concatenate([[start], shift * t / (1 - t), [end]])


def _stepped(start: float, end: float, steps: int, rungs: Float64[np.ndarray, " rungs"]) -> Path:
    numbers = np.arange(len(rungs))
    high, low = np.interp((start, end), rungs, numbers)
    return _between(start, np.interp(np.linspace(high, low, steps + 1), numbers, rungs), end)


def _between(start: float, path: Path, end: float) -> Path:
    """The path with ends that are exact; one of no steps is where it starts."""
    path[-1], path[0] = end, start
    return path
