from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.shots import changes as changes_module
from pipeline.shots.changes import find_changes
from pipeline.source.decoder import Decoder
from pipeline.source.rgb import Thumbnail


def thumbnails(path: Path) -> Iterator[np.ndarray]:
    thumbnail = Thumbnail()
    with Decoder(str(path)) as decoder:
        yield from map(thumbnail, decoder.frames())


@pytest.fixture(scope="module")
def takes(data_dir: Path) -> list[np.ndarray]:
    """Two real shots of 64×114, 60 frames each."""
    names = ("bear.mp4", "run.mp4")
    return [
        np.stack(list(thumbnails(data_dir / "videos" / name))[:60])[:, :, :114] for name in names
    ]


def mixed(takes: list[np.ndarray], length: int) -> tuple[np.ndarray, range]:
    """One shot that dissolves into the other; the frames of the dissolve."""
    one, other = (take.astype(np.float32) for take in takes)
    share = (np.arange(1, length + 1) / (length + 1))[:, None, None, None]
    between = one[-length:] * (1 - share) + other[:length] * share
    film = np.concatenate([one[:-length], between, other[length:]])
    return film.round().astype(np.uint8), range(len(one) - length, len(one))


@pytest.mark.parametrize("length", [8, 16, 30])
def test_a_dissolve_is_no_part_of_a_shot(takes: list[np.ndarray], length: int) -> None:
    film, dissolve = mixed(takes, length)
    (found,) = find_changes(film)
    assert len({*found} & {*dissolve}) >= 0.7 * length
    assert len({*found} - {*dissolve}) <= 6


def test_a_fade_through_black_is_no_part_of_a_shot(takes: list[np.ndarray]) -> None:
    """Out from 48 to 60, eight black frames, in from 68 to 80."""
    black = np.zeros_like(takes[0][:16])
    out, _ = mixed([takes[0], black], 12)
    into, _ = mixed([black, takes[1]], 12)
    found = [number for change in find_changes(np.concatenate([out, into])) for number in change]
    assert {*range(50, 60), *range(70, 78)} <= {*found} <= {*range(44, 84)}


def test_a_pan_and_a_lamp_are_no_changes(takes: list[np.ndarray]) -> None:
    wide = np.concatenate([takes[0][0], takes[1][0][:, ::-1]], axis=1)  # 64×228
    pan = [wide[:, x : x + 114] for x in range(0, 114, 2)]
    assert find_changes(pan) == []
    lamp = [(takes[0][0] * (0.6 + 0.4 * min(1, i / 10))).astype(np.uint8) for i in range(40)]
    assert find_changes(lamp) == []


@pytest.mark.parametrize("length", [1, 2, 3])
def test_cuts_to_the_shortest_shots_are_found(takes: list[np.ndarray], length: int) -> None:
    """They look like a flash, but what follows is another shot than what came before."""
    blue = np.zeros_like(takes[0][:length])
    blue[..., 0], blue[:, 32:, :, 1] = 255, 255
    other = 255 - takes[1][:, ::-1]
    film = np.concatenate([takes[0], blue, other])
    assert [change.start for change in find_changes(film)] == [60, 60 + length]


def test_a_flash_in_motion_is_no_cut(takes: list[np.ndarray]) -> None:
    flash = takes[0].copy()
    flash[30:33] = (204 + flash[30:33] * 0.2).astype(np.uint8)
    assert find_changes(flash) == []


def test_blocks_leave_no_trace(takes: list[np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    film, _ = mixed(takes, 16)
    film = np.concatenate([film, takes[0]])
    whole = find_changes(film)
    assert len(whole) == 2
    monkeypatch.setattr(changes_module, "_BLOCK", 7)
    assert find_changes(film) == whole


def test_the_dissolve_of_a_real_video_is_left_out(data_dir: Path) -> None:
    """`shots.json`: a dissolve from 124 to 150, give or take 4 frames, and a cut at 202."""
    dissolve, cut = find_changes(thumbnails(data_dir / "videos/nasa_13013.mp4"))
    assert {*range(129, 146)} <= {*dissolve} <= {*range(118, 157)}
    assert cut == range(202, 202)
