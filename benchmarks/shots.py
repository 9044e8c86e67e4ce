"""Shot detectors against known cuts: F1, and time per frame.

    python benchmarks/shots.py --data FOLDER_WITH_VIDEOS

The folder holds videos and a `shots.json`: for each video with cuts `hard_cuts` (first frames of
new shots), `gradual` (first and last frames of fades and dissolves) and `complete` (false: not all
cuts are listed). Videos without an entry are one take, each cut found in them is wrong. A cut
counts if its frame is exact. Cuts inside gradual changes, and those of an incomplete list that it
does not hold, count neither way.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
from scenedetect.detector import SceneDetector
from scenedetect.detectors import AdaptiveDetector, ContentDetector

from pipeline.planning.shots import cuts_of, find_cuts
from pipeline.source.decoder import Decoder
from pipeline.source.inputs import find_sources
from pipeline.source.rgb import Thumbnail

NEAR = 6  # frames by which the borders of gradual changes are uncertain

Find = Callable[[list[np.ndarray]], list[int]]


def stock(judge: Callable[..., SceneDetector]) -> Find:
    """PySceneDetect's default parameters, but shots of any length."""
    return lambda pictures: cuts_of(pictures, judge(min_scene_len=0))


DETECTORS: dict[str, Find] = {
    "adaptive (ours)": lambda pictures: find_cuts(pictures, "adaptive"),
    "content (ours)": lambda pictures: find_cuts(pictures, "content"),
    "AdaptiveDetector, defaults": stock(AdaptiveDetector),
    "ContentDetector, defaults": stock(ContentDetector),
}


def thumbnails(path: str) -> list[np.ndarray]:
    thumbnail = Thumbnail()
    with Decoder(path) as decoder:
        return [thumbnail(frame) for frame in decoder.frames()]


def score(cuts: list[int], truth: dict) -> tuple[int, list[int], list[int]]:
    """Cuts found, found wrongly, and missed."""
    hard = set(truth.get("hard_cuts", ()))
    wrong = [
        cut
        for cut in cuts
        if cut not in hard
        and truth.get("complete", True)
        and not any(
            change["first"] - NEAR <= cut <= change["last"] + NEAR
            for change in truth.get("gradual", ())
        )
    ]
    return len(hard & set(cuts)), wrong, sorted(hard - set(cuts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, help="folder of videos and shots.json, or the one above"
    )
    parser.add_argument("--skip", nargs="*", default=(), help="names of videos of unknown truth")
    arguments = parser.parse_args()
    folder = arguments.data / "videos" if (arguments.data / "videos").is_dir() else arguments.data
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"scenedetect {version('scenedetect-headless')}, opencv {cv2.__version__}\n"
    )
    truth = json.loads((folder / "shots.json").read_text())
    totals = {name: [0, 0, 0, 0.0, 0] for name in DETECTORS}
    for source in find_sources([folder])[0]:
        name = Path(source.path).name
        if name in arguments.skip:
            continue
        pictures = thumbnails(source.path)
        for detector, find in DETECTORS.items():
            began = time.perf_counter()
            found, wrong, missed = score(find(pictures), truth.get(name, {}))
            spent = time.perf_counter() - began
            counts = found, len(wrong), len(missed), spent, len(pictures)
            totals[detector] = [a + b for a, b in zip(totals[detector], counts, strict=True)]
            if wrong or missed:
                print(f"  {detector:28} {name:28} wrong {wrong[:8]} missed {missed}")
    for detector, (hits, extra, lost, spent, frames) in totals.items():
        f1 = 2 * hits / max(1, 2 * hits + extra + lost)
        print(
            f"{detector:28} F1 {f1:.3f}  found {hits}  wrong {extra}  missed {lost}  "
            f"{1e3 * spent / frames:.3f} ms per frame"
        )


if __name__ == "__main__":
    main()
