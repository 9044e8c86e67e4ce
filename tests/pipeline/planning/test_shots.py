import gc
import json
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.planning.shots import Detector, as_shots, find_cuts
from pipeline.source.decoder import Decoder
from pipeline.source.rgb import Thumbnail


def picture(brightness: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(-8, 9, (64, 96, 3))
    return np.clip(brightness + noise, 0, 255).astype(np.uint8)


def thumbnails(path: Path) -> Iterator[np.ndarray]:
    thumbnail = Thumbnail()
    with Decoder(str(path)) as decoder:
        yield from map(thumbnail, decoder.frames())


@pytest.mark.parametrize("detector", ["adaptive", "content"])
def test_hard_cuts_are_found_exactly(detector: Detector) -> None:
    levels = [40] * 12 + [200] * 5 + [90] * 20 + [10] * 3
    pictures = [picture(level, i) for i, level in enumerate(levels)]
    assert find_cuts(pictures, detector) == [12, 17, 37]


@pytest.mark.parametrize("border", [1, 2, 38, 39])
def test_cuts_near_the_ends_are_found(border: int) -> None:
    pictures = [picture(40 if i < border else 200, i) for i in range(40)]
    assert find_cuts(pictures, "adaptive") == [border]


@pytest.mark.parametrize("detector", ["adaptive", "content"])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_flash_is_no_cut(detector: Detector, length: int) -> None:
    pictures = [picture(60, i) for i in range(40)]
    pictures[20 : 20 + length] = [np.full((64, 96, 3), 255, np.uint8)] * length
    assert find_cuts(pictures, detector) == []


def test_none_finds_nothing_and_sees_everything() -> None:
    seen: list[int] = []

    def pictures() -> Iterator[np.ndarray]:
        for i in range(3):
            seen.append(i)
            yield picture(i * 100)

    assert find_cuts(pictures(), "none") == []
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("detector", ["adaptive", "content", "none"])
@pytest.mark.parametrize("frames", [0, 1, 2, 6])
def test_short_videos(detector: Detector, frames: int) -> None:
    assert find_cuts([picture(50, i) for i in range(frames)], detector) == []


def test_pictures_are_not_kept() -> None:
    alive: list[weakref.ref] = []
    most = 0

    def pictures() -> Iterator[np.ndarray]:
        nonlocal most
        for i in range(200):
            made = picture(200 if i // 40 % 2 else 40, i)
            alive.append(weakref.ref(made))
            yield made
            del made
            gc.collect(0)
            most = max(most, sum(ref() is not None for ref in alive))

    assert find_cuts(pictures(), "adaptive") == [40, 80, 120, 160]
    assert most <= 12


def test_known_cuts_of_a_real_video(data_dir: Path) -> None:
    """Exact by construction, with a shot of 5 frames and one white frame that is no cut."""
    truth = json.loads((data_dir / "videos/shots.json").read_text())["derived_cuts_a.mp4"]
    cuts = find_cuts(thumbnails(data_dir / "videos/derived_cuts_a.mp4"), "adaptive")
    assert cuts == truth["hard_cuts"]


@pytest.mark.parametrize(
    "name", ["bear.mp4", "cat.mp4", "run.mp4", "yoga.mp4", "awesome_movie.mov", "fire2.mp4"]
)
def test_one_take_is_one_shot(data_dir: Path, name: str) -> None:
    assert find_cuts(thumbnails(data_dir / "videos" / name), "adaptive") == []


@given(st.sets(st.integers(1, 99)), st.just(100))
def test_shots_part_the_frames_at_the_cuts(cuts: set[int], frames: int) -> None:
    shots = as_shots(sorted(cuts), frames)
    assert [n for shot in shots for n in shot] == list(range(frames))
    assert [shot.start for shot in shots] == sorted({0, *cuts})
    assert all(len(shot) > 0 for shot in shots)
