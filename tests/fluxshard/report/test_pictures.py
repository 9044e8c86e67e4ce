"""Pictures of the report show what is stored."""

import io
from fractions import Fraction

import av
import numpy as np

from fluxshard.demo.truth import true_flow
from fluxshard.report.gallery import Gallery
from fluxshard.report.pictures import error_image, exhibit_truth, film, png
from shards.clip_video import decode_clip
from shards.index import Dataset


def test_the_film_plays_the_clip_beside_its_flow(demo_dataset: str):
    view = Gallery(Dataset(demo_dataset)).view(0)
    data = film(view, view.px_per_slot())
    frames = decode_clip(data)
    assert frames.shape == (16, 3, 192, 3 * 256)  # enlarged twice; the last frame has no next
    shown = frames[5, :, ::2, :256:2].astype(float)
    assert np.abs(shown - view.frames[5]).mean() < 4
    with av.open(io.BytesIO(data)) as container:
        assert container.streams.video[0].average_rate == Fraction(12)


def test_truth_is_shown_for_a_stored_pair(demo_dataset: str):
    view = Gallery(Dataset(demo_dataset)).view(0)
    exhibit = exhibit_truth(view, true_flow)
    assert exhibit.pair in view.fields
    assert exhibit.score.end_point_error > 0
    np.testing.assert_array_equal(exhibit.image, view.image(exhibit.pair[0]))
    assert exhibit.true.shape == exhibit.stored.shape == exhibit.error.shape == (96, 128, 3)


def test_errors_go_from_black_to_bright_and_hidden_pixels_are_grey():
    picture = error_image(np.array([[0.0, 2.0, 50.0, 1.0]]), np.array([[True, True, True, False]]))
    assert picture[0, 0].sum() < 10
    assert picture[0, 1].sum() > 500
    np.testing.assert_array_equal(picture[0, 1], picture[0, 2])
    np.testing.assert_array_equal(picture[0, 3], [128] * 3)


def test_pictures_keep_their_colours():
    image = np.zeros((2, 3, 3), np.uint8)
    image[0, 0] = (255, 10, 20)
    with av.open(io.BytesIO(png(image)), "r", format="png_pipe") as container:
        decoded = next(container.decode(video=0)).to_ndarray(format="rgb24")
    np.testing.assert_array_equal(decoded, image)
