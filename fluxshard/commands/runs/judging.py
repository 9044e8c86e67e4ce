"""The motion of a run: of clips that it samples, and of what it restores, beside the kept clips."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from fluxshard.commands.runs.wishes import Wish, evaluations, sample_clips
from shards import UsageError
from trainer import load_features, load_lpips, measure, measuring_estimator
from trainer.config.rules import require
from trainer.run.evaluate import Kept, motion_by_level
from trainer.sample.request import usual

SMOOTH = ("flicker", "second_difference", "warping_error", "tcs", "lpips_drift")
"""Figures that a clip that stands still is best in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judging:
    """What to judge motion by; see `fluxshard eval`.

    Attributes:
        samples: clips to sample, and how many kept ones are restored at each noise level.
        steps: of a sampled clip.
        estimator: of the figures; "" is dis, or variational where the run learned from dis.
        lpips: whether LPIPS is there for its two figures.
        fvd_network: of `load_features`; "": no FVD.
    """

    samples: int
    steps: int
    estimator: str = ""
    lpips: bool = False
    fvd_network: str = ""

    def __post_init__(self) -> None:
        for name, least in (("samples", 0), ("steps", 1)):
            value = getattr(self, name)
            require(value >= least, f"{name} is {value}; take {least} or more")


def judge_motion(
    kept: Kept, wanted: Judging, progress: Callable[[int, int], None] = lambda *_: None
) -> dict[str, Any]:
    """Figures of sampled clips beside the kept ones', and motion errors by noise level.

    Args:
        progress: called with (done, total) after each step of sampling.

    Raises:
        UsageError: the estimator taught the run, frames are too small, the run's clips have given
            frames, or LPIPS or the network cannot be had.
    """
    if kept.config.process.given:
        raise UsageError(
            f"the run learned to go on from {kept.config.process.given} given frames and samples "
            "nothing without: judge its loss alone with --samples 0"
        )
    taught = kept.facts.estimators
    name = wanted.estimator or ("variational" if "dis" in taught else "dis")
    estimator = measuring_estimator(name, trained_with=taught)
    distance = load_lpips() if wanted.lpips else None
    network = load_features(wanted.fvd_network) if wanted.fvd_network else None
    by_level = motion_by_level(kept, estimator, wanted.samples)
    request = replace(usual(kept.config, kept.trained.codec.rule), steps=wanted.steps)
    prompts, labels = kept.told(wanted.samples)
    wish = Wish(count=wanted.samples, request=request, given={}, prompts=prompts, labels=labels)
    total, steps = evaluations(kept.config, kept.trained, wish), count(1)
    clips = sample_clips(
        kept.config, kept.facts.size, kept.trained, wish, lambda: progress(next(steps), total)
    )
    made = (clip.float() / 255 for clip in clips.split(1))
    real = kept.real(kept.validation.clips)
    figures = measure(made, estimator, real=real, distance=distance, network=network)
    return {
        "estimator": name,
        **({"fvd_network": network.name} if network else {}),
        "by_level": _sayable(by_level),
        "figures": _sayable(figures),
    }


def motion_rows(motion: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """(figure, of the run, of the kept clips, what to read it with), for a table.

    How much moves stands beside each figure that standing still is best in.
    """
    figures = motion["figures"]
    moves = f"moves {_said(figures['motion_ratio'])} of real"
    rows = [
        (f"motion error at level {at}", _said(error), "0", "1: stands still")
        for at, error in motion["by_level"].items()
    ]
    return rows + [
        (
            name,
            _said(value),
            _said(figures[f"real_{name}"]) if f"real_{name}" in figures else "",
            moves if name in SMOOTH else "",
        )
        for name, value in figures.items()
        if not name.startswith("real_")
    ]


def _said(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _sayable(figures: dict[str, float]) -> dict[str, float | None]:
    """None in place of NaN, which JSON has no word for."""
    return {name: None if math.isnan(value) else value for name, value in figures.items()}
