"""Where shots change, by comparing small grey pictures: hard cuts, dissolves, fades; streaming.

Two pictures are *unlike* where their correlation is low and their difference large. A hard cut is a
step between two frames that stands out among the steps around it, with unlike pictures on its two
sides; a flash is none, for its sides are alike. A gradual change lies midway between two unlike
pictures, near their mean, flatter than they are, and no single step makes much of the way; motion
makes pictures unlike too, but the one midway is then no mean of the others.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

Thumb = UInt8[np.ndarray, "h w 3"]
Views = Float32[np.ndarray, "n 448"]

REVISION = 2  # raise it with every change that finds other shots
LAGS = (4, 8, 15)  # frames to both sides; the longest change is about twice the longest
_SIDE = 3  # steps to both sides among which a cut stands out; a flash is no longer
_PAD = max(LAGS) + _SIDE
_BLOCK = 512
_HIGH, _WIDE = 16, 28
_NOISE = 4.0  # variance in grey levels squared below which a picture has no content


@dataclass(frozen=True, kw_only=True, slots=True)
class Thresholds:
    """What `benchmarks/shots.py` chooses; each is chosen on other videos than it is judged on.

    Attributes:
        unlike: 1 − correlation from which two pictures are unlike.
        change: root mean square difference from which they are, in grey levels.
        peak: ratio of a cut's step to the largest within three frames on both sides; or, for shots
            of one to three frames, half its ratio to the second largest.
        jump: largest step in a gradual change, as a share of the whole change.
        bend: largest distance from the mean of both ends, as a share of the whole change.
        dip: contrast, as variance, over the mean contrast of both ends, below which it has dipped.
        grow: frames by which what is found gradual is extended to both sides.
    """

    unlike: float = 0.5
    change: float = 20.0
    peak: float = 2.0
    jump: float = 0.45
    bend: float = 0.35
    dip: float = 0.9
    grow: int = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Measures:
    """What is measured around each of n frames.

    Attributes:
        peak: how far the step to the frame stands out, see `Thresholds`.
        across: unlikeness and change [2, n] between the pictures on both sides of that step.
        apart: unlikeness and change [lags, 2, n] between the pictures a lag before and after.
        jump, bend, dip: as in `Thresholds`, [lags, n].
    """

    peak: np.ndarray
    across: np.ndarray
    apart: np.ndarray
    jump: np.ndarray
    bend: np.ndarray
    dip: np.ndarray


def find_changes(pictures: Iterable[Thumb], thresholds: Thresholds = Thresholds()) -> list[range]:
    """Changes in order: an empty range at the first frame after a cut, else the frames that mix.

    Holds a few hundred pictures of 16×28; what it keeps of a frame beyond them is two bytes.

    Args:
        pictures: BGR, all of one size.
    """
    marks = [decide(measures, thresholds) for measures in measure(pictures)]
    if not marks:
        return []
    cuts, gradual = np.concatenate(marks, axis=1)
    return changes_of(cuts, gradual, thresholds.grow)


def measure(pictures: Iterable[Thumb]) -> Iterator[Measures]:
    """Block by block; together they hold each frame once."""
    views = _padded(map(_view, pictures))
    window = list(islice(views, 2 * _PAD))
    while block := list(islice(views, _BLOCK)):
        window += block
        yield _measured(np.stack(window))
        window = window[-2 * _PAD :]


def decide(measures: Measures, thresholds: Thresholds) -> np.ndarray:
    """Whether each frame follows a cut, and whether it lies in a gradual change: bool [2, n]."""

    def unlike(pair: np.ndarray) -> np.ndarray:
        return (pair[..., 0, :] > thresholds.unlike) & (pair[..., 1, :] > thresholds.change)

    cut = (measures.peak > thresholds.peak) & unlike(measures.across)
    smooth = (measures.jump < thresholds.jump) & (measures.bend < thresholds.bend)
    return np.stack(
        [cut, (unlike(measures.apart) & smooth & (measures.dip < thresholds.dip)).any(0)]
    )


def changes_of(cuts: np.ndarray, gradual: np.ndarray, grow: int) -> list[range]:
    """Changes as `find_changes` gives them, from what `decide` says of all frames of a video."""
    gradual = np.convolve(gradual, np.ones(2 * grow + 1))[grow : grow + len(gradual)] > 0
    edges = np.flatnonzero(np.diff(np.concatenate([[0], gradual.astype(np.int8), [0]])))
    mixed = [range(start, stop) for start, stop in edges.reshape(-1, 2).tolist()]
    hard = [range(cut, cut) for cut in np.flatnonzero(cuts & ~gradual).tolist()]
    return sorted(hard + mixed, key=lambda change: change.start)


def _view(picture: Thumb) -> np.ndarray:
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, (_WIDE, _HIGH), interpolation=cv2.INTER_AREA)
    return small.ravel().astype(np.float32)


def _padded(views: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The first and the last repeated, so that frames near the ends have both sides."""
    last = next(views, None)
    if last is None:
        return
    yield from repeat(last, _PAD + 1)
    for last in views:
        yield last
    yield from repeat(last, _PAD)


def _measured(views: Views) -> Measures:
    """Of all views but the first and last `_PAD`."""
    steps = np.zeros(len(views), np.float32)
    steps[1:] = _distance(views[1:], views[:-1])
    inner = np.arange(_PAD, len(views) - _PAD)
    variance = views.var(axis=1)
    lagged = [_lagged(views, variance, steps, inner, lag) for lag in LAGS]
    apart, jump, bend, dip = (np.stack(what) for what in zip(*lagged, strict=True))
    return Measures(
        peak=_peak(steps, inner),
        across=_compared(views, variance, inner - _SIDE - 1, inner + _SIDE),
        apart=apart,
        jump=jump,
        bend=bend,
        dip=dip,
    )


def _lagged(
    views: Views, variance: np.ndarray, steps: np.ndarray, inner: np.ndarray, lag: int
) -> Sequence[np.ndarray]:
    before, after = inner - lag, inner + lag
    apart = _compared(views, variance, before, after)
    whole = apart[1] + 1
    largest = np.lib.stride_tricks.sliding_window_view(steps, 2 * lag).max(axis=1)[before + 1]
    middle = (views[before] + views[after]) / 2
    contrast = (variance[before] + variance[after]) / 2
    dip = variance[inner] / np.maximum(contrast, _NOISE)
    return apart, largest / whole, _distance(views[inner], middle) / whole, dip


def _compared(views: Views, variance: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """1 − correlation, and root mean square difference; a fade to one colour is uncorrelated."""
    flat = views - views.mean(axis=1, keepdims=True)
    common = (flat[one] * flat[other]).mean(axis=1)
    most = np.maximum(np.maximum(variance[one], variance[other]), _NOISE)
    return np.stack([1 - common / most, _distance(views[one], views[other])])


def _distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(one - other).mean(axis=1))


def _peak(steps: np.ndarray, inner: np.ndarray) -> np.ndarray:
    around = np.lib.stride_tricks.sliding_window_view(steps, 2 * _SIDE + 1)[inner - _SIDE]
    others = np.sort(np.delete(around, _SIDE, axis=1), axis=1)
    first, second = np.maximum(others[:, -1], 1), np.maximum(others[:, -2], 1)
    return np.maximum(steps[inner] / first, steps[inner] / second / 2)
