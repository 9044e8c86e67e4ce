from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from pipeline.records import Video
from pipeline.source.looks import Looks, perceptual_hash
from shards import Clip

VIDEO = Video(
    path="/v.mp4",
    sha256="0" * 64,
    size_bytes=1,
    container="mov",
    codec="hevc",
    pixel_format="yuv420p10le",
    stream=0,
    time_base=Fraction(1, 25),
    stored=(64, 96),
    sample_aspect=Fraction(1),
    rotation=0,
    mirrored=False,
    average_rate=Fraction(25),
    full_range=False,
    matrix=9,
    transfer=16,
)
CLIP = Clip(
    key="a",
    path="/v.mp4",
    source_sha256="0" * 64,
    numbers=(0, 1, 2, 3),
    pts=(0, 1, 2, 3),
    time_base=Fraction(1, 25),
    fps=Fraction(25),
    size=(32, 48),
    shot=0,
    repeated=0,
    decode_errors=0,
    seekable=True,
)


def scene(seed: int = 0) -> np.ndarray:
    """64×96, bright, with content at all scales."""
    noise = np.random.default_rng(seed).integers(60, 255, (8, 12, 3)).astype(np.uint8)
    return noise.repeat(8, axis=0).repeat(8, axis=1)


def described(pictures: list[np.ndarray], clip: Clip = CLIP, interlaced: int = -1) -> Clip:
    looks = Looks()
    for number, picture in enumerate(pictures):
        looks.add(picture, number == interlaced)
    return looks.describe(clip, VIDEO)


def test_facts_of_the_source_stand_with_each_clip():
    clip = described([scene()] * 6, interlaced=4)
    assert (clip.codec, clip.transfer, clip.interlaced) == ("hevc", 16, False)
    assert described([scene()] * 6, replace(CLIP, numbers=(2, 3, 4, 5)), interlaced=4).interlaced


def test_bars_count_where_they_are_black_all_through():
    wide = scene()
    wide[:8], wide[-8:] = 10, 0
    assert described([wide] * 4).letterbox == 0.25
    boxed = wide.copy()
    boxed[:, :12] = 5
    assert described([boxed] * 4).letterbox == pytest.approx(1 - 48 / 64 * 84 / 96, abs=1e-3)
    assert described([boxed, wide, boxed, boxed]).letterbox == 0.25
    assert described([boxed, scene(), boxed, boxed]).letterbox == 0
    assert described([np.zeros_like(wide), *[wide] * 3]).letterbox == 0.25, (
        "a black frame says nothing"
    )
    assert described([np.zeros_like(wide)] * 4).letterbox == 1


def test_static_is_the_share_of_slots_without_motion():
    noise = np.random.default_rng(0).integers(-1, 2, (8, 64, 96, 3))
    noisy = [np.clip(scene() + n, 0, 255).astype(np.uint8) for n in noise]
    assert described(noisy).static == 1
    moved = noisy.copy()
    moved[2] = moved[2].copy()
    moved[2][20:24, 40:44] += 20  # a small thing that comes and goes
    assert described(moved).static == pytest.approx(1 / 3, abs=1e-3)
    # Slots that pass over frames: what comes and goes between them is motion, too.
    passing = described(moved, replace(CLIP, numbers=(0, 4, 5, 6)))
    assert passing.static == pytest.approx(2 / 3, abs=1e-3)
    assert described(noisy, replace(CLIP, numbers=(0, 0, 7, 7))).static == 1


def distance(one: str | None, other: str | None) -> int:
    return (int(one or "", 16) ^ int(other or "", 16)).bit_count()


def test_near_duplicates_have_near_hashes():
    of_middle = [scene(1), scene(2), scene(), scene(3)]
    clip = described(of_middle)
    darker = described([(picture * 0.8 + 5).astype(np.uint8) for picture in of_middle])
    other = described([scene(9)] * 4)
    assert len(clip.phash or "") == 16
    assert clip.phash == described([scene()] * 4).phash
    assert distance(clip.phash, darker.phash) <= 4
    assert distance(clip.phash, other.phash) >= 16


def test_the_hash_is_of_low_frequencies_from_the_highest_bit():
    """Brightness alone, then one wave down: the first bit, and the first of the second row."""
    assert perceptual_hash(np.full((64, 96), 200, np.uint8)) == 1 << 63
    ramp = np.tile(np.linspace(255, 0, 64).astype(np.uint8)[:, None], (1, 96))
    assert perceptual_hash(ramp) & (1 << 63 | 1 << 55) == 1 << 63 | 1 << 55
    assert perceptual_hash(ramp[::-1].copy()) & (1 << 63 | 1 << 55) == 1 << 63
