"""Clips stand beside each other in one video."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from fluxshard.report.grid import FPS, grid, grid_gif, grid_video, played_at
from shards.clip_video import decode_clip


def test_clips_stand_in_a_grid_and_short_ones_wait_for_the_others() -> None:
    shades = [40, 120, 200]
    clips = [np.full((2 + n, 3, 16, 20), shade, np.uint8) for n, shade in enumerate(shades)]
    clips[0][1] = 90
    video = decode_clip(grid_video(clips))
    assert video.shape == (4, 3, 2 * 20, 2 * 24)
    for number, last in enumerate((90, 120, 200)):
        top, left = number // 2 * 20, number % 2 * 24
        cell = video[:, :, top + 4 : top + 12, left + 4 : left + 12].astype(int)
        assert abs(cell[-1] - last).max() <= 4
        assert abs(cell[0] - shades[number]).max() <= 4
    with pytest.raises(ValueError, match="no clips"):
        grid_video([])


def test_samples_of_a_model_with_a_frame_rate_are_played_at_it() -> None:
    clips = [np.full((3, 3, 16, 20), 40, np.uint8)]
    for fps, rate in ((24.0, 24), (23.976, Fraction(2997, 125)), (None, FPS), (0.0, FPS)):
        with av.open(io.BytesIO(grid_video(clips, played_at(fps)))) as video:
            assert video.streams.video[0].average_rate == rate


def test_the_same_grid_as_a_gif_that_goes_round() -> None:
    clips = [np.full((3, 3, 16, 20), 40 * (1 + n), np.uint8) for n in range(2)]
    clips[0][2] = 200
    with Image.open(io.BytesIO(grid_gif(clips))) as gif:
        assert (gif.size, gif.info["loop"]) == ((48, 20), 0)
        pictures = [
            (np.asarray(p.convert("RGB")), dict(p.info)) for p in ImageSequence.Iterator(gif)
        ]
    frames, infos = zip(*pictures, strict=True)
    assert [info["duration"] for info in infos] == [250, 120]  # two alike are one, shown longer
    shown = np.stack(frames).transpose(0, 3, 1, 2)
    assert abs(shown.astype(int) - grid(clips)[[0, 2]]).max() <= 4
