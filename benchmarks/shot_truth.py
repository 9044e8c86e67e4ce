"""Film whose shot borders are known: real takes spliced by hard cuts, dissolves and fades, seeded.

What else looks like a border and is none is mixed in: flashes, pans, gain changes, still stretches.
Takes are the shots of real videos; the videos are dealt to folds, and a film is spliced from those
of one fold, so that a detector can be tuned on some videos and judged on others.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from pipeline.shots.detect import as_shots
from pipeline.source.decoder import Decoder

Film = UInt8[np.ndarray, "t h w 3"]

FOLDS = 6
FILMS_OF_A_FOLD = 6
SHOTS_OF_A_FILM = 12
TALL, WIDE = 128, 228  # of takes; films are half as high and wide
NEAR = 6  # frames by which borders of gradual changes in `shots.json` are uncertain
SHORTEST_TAKE = 24
# Their takes are not known, or one flat colour, all black, or the same pictures as another.
NO_TAKES = {
    *("test.ogv", "androidx_sample.avi", "mmaction2_demo.mp4", "frames.webm"),
    *("long_180p_av1.mp4", "derived_cuts_a.mp4", "nasa_13013_hdr.mp4"),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Truth:
    """Where the shots of a video change.

    Attributes:
        hard: first frames of new shots.
        gradual: half-open ranges of the frames that mix two shots, or a shot and black.
        complete: no other border is there.
        near: frames by which the borders of gradual changes are uncertain.
    """

    hard: tuple[int, ...] = ()
    gradual: tuple[range, ...] = ()
    complete: bool = True
    near: int = 0


def read_truth(folder: Path) -> dict[str, Truth]:
    """What `shots.json` says of the videos in a folder."""
    return {
        name: Truth(
            hard=tuple(entry["hard_cuts"]),
            gradual=tuple(range(g["first"], g["last"] + 1) for g in entry.get("gradual", ())),
            complete=entry.get("complete", True),
            near=NEAR,
        )
        for name, entry in json.loads((folder / "shots.json").read_text()).items()
    }


def takes_of(path: Path, truth: Truth) -> list[Film]:
    """The shots of a video of `SHORTEST_TAKE` frames or more, 128×228; none of some videos."""
    if path.name in NO_TAKES:
        return []
    with Decoder(str(path)) as decoder:
        frames = [
            cv2.resize(frame.to_ndarray(format="bgr24"), (WIDE, TALL), interpolation=cv2.INTER_AREA)
            for frame in decoder.frames()
        ]
    changes = [range(n, n) for n in truth.hard]
    changes += [range(g.start - NEAR, g.stop + NEAR) for g in truth.gradual]
    shots = [frames[shot.start : shot.stop] for shot in as_shots(changes, len(frames))]
    return [np.stack(shot) for shot in shots if len(shot) >= SHORTEST_TAKE]


def deal(takes: Mapping[str, list[Film]]) -> list[dict[str, list[Film]]]:
    """The videos that have takes in folds, by name, as cards are dealt."""
    names = sorted(name for name in takes if takes[name])
    return [{name: takes[name] for name in names[fold::FOLDS]} for fold in range(FOLDS)]


def films(takes: Mapping[str, list[Film]], seed: int) -> Iterator[tuple[Film, Truth]]:
    """Films spliced from the takes, 64×114."""
    for number in range(FILMS_OF_A_FOLD):
        yield _splice(takes, np.random.default_rng([seed, number]))


def _splice(takes: Mapping[str, list[Film]], random: np.random.Generator) -> tuple[Film, Truth]:
    film, before = _shot(takes, random, "")
    clean = len(film)  # frames at the end of the film that are of one shot
    hard: list[int] = []
    gradual: list[range] = []
    for _ in range(SHOTS_OF_A_FILM - 1):
        shot, before = _shot(takes, random, before)
        kind = random.choice(["cut", "dissolve", "fade"], p=[0.5, 0.35, 0.15])
        mixed = 0 if kind == "cut" else int(random.integers(8, 31))
        mixed = min(mixed, len(shot) // 2, clean - 4)
        clean, start = len(shot) - mixed, len(film) - mixed
        share = (np.arange(1, mixed + 1) / (mixed + 1))[:, None, None, None]
        out, into = film[start:] * (1 - share), shot[:mixed] * share
        between = [_whole(out + into)]
        if kind == "fade":
            black = np.zeros((int(random.integers(0, 6)), *film.shape[1:]), np.uint8)
            between = [_whole(out), black, _whole(into)]
        film = np.concatenate([film[:start], *between, shot[mixed:]])
        if kind == "cut":
            hard.append(start)
        else:
            gradual.append(range(start, start + sum(map(len, between))))
    return film, Truth(hard=tuple(hard), gradual=tuple(gradual))


def _shot(
    takes: Mapping[str, list[Film]], random: np.random.Generator, before: str
) -> tuple[Film, str]:
    """A stretch of a take of another video than the one before, and the video's name."""
    name = str(random.choice([name for name in takes if name != before]))
    take = takes[name][random.integers(len(takes[name]))]
    stride = int(random.integers(1, 3)) if len(take) >= 4 * SHORTEST_TAKE else 1
    length = int(random.integers(SHORTEST_TAKE, 90))
    start = int(random.integers(0, max(1, len(take) - length * stride)))
    shot = _framed(take[start : start + length * stride : stride], random)
    return _disturbed(shot, random), name


def _framed(shot: Film, random: np.random.Generator) -> Film:
    """A part of the picture at 64×114, mirrored or not; it pans in a quarter of the shots."""
    high = int(random.integers(TALL // 2, TALL + 1))
    wide = high * WIDE // TALL
    top = int(random.integers(0, TALL - high + 1))
    left = np.full(len(shot), random.uniform(0, WIDE - wide))
    if random.random() < 0.25:
        begin, length = random.integers(0, len(shot)), random.integers(6, 30)
        course = np.clip((np.arange(len(shot)) - begin) / length, 0, 1)
        left += (random.uniform(0, WIDE - wide) - left) * (1 - np.cos(np.pi * course)) / 2
    views = [
        cv2.resize(picture[top : top + high, x : x + wide], (114, 64), interpolation=cv2.INTER_AREA)
        for picture, x in zip(shot, left.round().astype(int), strict=True)
    ]
    return np.stack(views)[:, :, :: random.choice([-1, 1])]


def _disturbed(shot: Film, random: np.random.Generator) -> Film:
    """In a quarter of the shots: a flash, another exposure, or a picture that stands still."""
    kind = random.random()
    at = int(random.integers(4, len(shot) - 6))
    shot = shot.copy()
    if kind < 0.1:
        length = int(random.integers(1, 4))
        shot[at : at + length] = _whole(shot[at : at + length] * 0.2 + 0.8 * 255)
    elif kind < 0.18:
        gain = np.ones(len(shot))
        ramp = np.linspace(1, random.uniform(0.6, 1.5), 6)
        gain[at : at + 6], gain[at + 6 :] = ramp, ramp[-1]
        shot = _whole(shot * gain[:, None, None, None])
    elif kind < 0.25:
        shot[at:] = shot[at]
    return shot


def _whole(pictures: np.ndarray) -> Film:
    return np.clip(np.round(pictures), 0, 255).astype(np.uint8)
