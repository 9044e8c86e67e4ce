"""Stored flow against the truth, where it is known."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from flow_cache import FlowField, Pair
from fluxshard.report.gallery import ClipView, Gallery
from shards import Clip

Truth = Callable[[Clip, Pair], FlowField]  # of a pair of the clip's slots


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """Sums over pixels, so that scores can be added; the properties divide.

    Attributes:
        error_px: end-point errors |stored - true|, summed over truly visible pixels.
        length_px: lengths of the true flow, summed over the same pixels.
        pixels, hidden: all pixels, and those truly hidden in the target frame.
        flagged, right: pixels stored as hidden, and those of them that truly are.
    """

    error_px: float = 0.0
    length_px: float = 0.0
    pixels: int = 0
    hidden: int = 0
    flagged: int = 0
    right: int = 0

    def __add__(self, other: "Score") -> "Score":
        return Score(
            error_px=self.error_px + other.error_px,
            length_px=self.length_px + other.length_px,
            pixels=self.pixels + other.pixels,
            hidden=self.hidden + other.hidden,
            flagged=self.flagged + other.flagged,
            right=self.right + other.right,
        )

    @property
    def end_point_error(self) -> float:
        """Mean over visible pixels, in pixels; NaN without any."""
        return _ratio(self.error_px, self.pixels - self.hidden)

    @property
    def length(self) -> float:
        """Mean length of the true flow over visible pixels, in pixels."""
        return _ratio(self.length_px, self.pixels - self.hidden)

    @property
    def precision(self) -> float:
        """Share of the pixels stored as hidden that truly are."""
        return _ratio(self.right, self.flagged)

    @property
    def recall(self) -> float:
        """Share of the truly hidden pixels that are stored as hidden."""
        return _ratio(self.right, self.hidden)


def _ratio(part: float, whole: int) -> float:
    return part / whole if whole else float("nan")


def error_map(stored: FlowField, true: FlowField) -> Float[Tensor, "h w"]:
    """End-point error of a field (n = 1), in pixels."""
    return torch.linalg.vector_norm(stored.flow - true.flow, dim=1)[0]


def score(stored: FlowField, true: FlowField) -> Score:
    """How a stored field (n = 1) compares with the true one."""
    seen = true.visible[0]
    return Score(
        error_px=float(error_map(stored, true)[seen].double().sum()),
        length_px=float(torch.linalg.vector_norm(true.flow, dim=1)[0][seen].double().sum()),
        pixels=seen.numel(),
        hidden=int((~seen).sum()),
        flagged=int((~stored.visible).sum()),
        right=int((~stored.visible[0] & ~seen).sum()),
    )


def score_clip(view: ClipView, truth: Truth) -> dict[int, Score]:
    """The score of a clip's forward flow by distance of the frames."""
    return {
        level: sum(
            (
                score(field, truth(view.clip, (i, j)))
                for (i, j), field in view.fields.items()
                if j - i == level
            ),
            Score(),
        )
        for level in view.levels
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerScores:
    """How a flow layer compares with the truth.

    Attributes:
        clips: compared.
        total: score by distance of the frames.
        videos: the same for each source video, by its file name.
    """

    clips: int
    total: dict[int, Score]
    videos: dict[str, dict[int, Score]]


def score_layer(gallery: Gallery, rows: Sequence[int], truth: Truth) -> LayerScores:
    """Scores of the gallery's layer over the clips in `rows`."""
    videos: dict[str, dict[int, Score]] = {}
    total: dict[int, Score] = {}
    for number in rows:
        view = gallery.view(number)
        mine = videos.setdefault(Path(view.clip.path).name, {})
        for level, scored in score_clip(view, truth).items():
            for sums in (mine, total):
                sums[level] = sums.get(level, Score()) + scored
    return LayerScores(clips=len(rows), total=total, videos=videos)
