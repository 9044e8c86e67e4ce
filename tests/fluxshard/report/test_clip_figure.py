"""The figure of a clip shows the right frames, flow and figures."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread

from flow_cache import FlowField
from flow_cache.color import flow_to_rgb
from fluxshard.report.clip_figure import clip_figure, inspect_figure, key_figures, shown_slots
from fluxshard.report.gallery import Gallery, hidden_image, layer_names, px
from shards.index import Dataset


@pytest.fixture(scope="module")
def gallery(demo_dataset: str) -> Gallery:
    return Gallery(Dataset(demo_dataset))


def texts(figure: Figure) -> set[str]:
    written = {text.get_text() for text in figure.texts}
    for ax in figure.axes:
        written |= {ax.get_title(), ax.get_ylabel()}
    return written


def test_frames_flow_of_every_level_and_occlusion_are_shown(gallery: Gallery):
    view = gallery.view(0)
    figure = clip_figure(view, gallery.layer)
    assert len(figure.axes) == 4 * (1 + 3 + 1) + 1  # frames, three levels, occlusion; the wheel
    assert {"frame 0", "0 → 1", "8 → 10", "12 → 16", view.row["key"]} <= texts(figure)
    shown = {ax.get_title(): ax.get_images()[0].get_array() for ax in figure.axes}
    np.testing.assert_array_equal(shown["frame 4"], view.frames[4].transpose(1, 2, 0))
    flow = flow_to_rgb(view.fields[4, 6].flow[0], 2 * view.px_per_slot())
    np.testing.assert_array_equal(shown["4 → 6"], flow)


def test_the_length_of_full_colour_is_stated(gallery: Gallery):
    view = gallery.view(0)
    written = texts(clip_figure(view, gallery.layer))
    for level in view.levels:
        full = px(level * view.px_per_slot())
        assert any(f"flow to {level} later" in text and full in text for text in written)


def test_it_is_a_picture(demo_dataset: str):
    buffer = io.BytesIO()
    inspect_figure(demo_dataset).savefig(buffer, format="png", dpi=50)
    buffer.seek(0)
    picture = imread(buffer)
    assert picture.shape[0] > 300
    assert picture.std() > 0.1


def test_clips_are_found_by_key_and_by_its_start(gallery: Gallery, demo_dataset: str):
    keys = gallery.dataset.clips["key"].to_pylist()
    assert [gallery.find(key) for key in keys] == list(range(len(keys)))
    assert keys[3] in texts(inspect_figure(demo_dataset, keys[3]))
    lonely = next(key for key in keys if sum(other[0] == key[0] for other in keys) == 2)
    with pytest.raises(ValueError, match="several keys"):
        gallery.find(lonely[0])
    with pytest.raises(ValueError, match=keys[0]):
        gallery.find("no-such-clip")


def test_a_layer_that_is_not_there_is_refused(demo_dataset: str):
    with pytest.raises(ValueError, match="layers there"):
        inspect_figure(demo_dataset, None, "raft_large")


def test_the_layer_that_the_build_named_first_is_shown(demo_dataset: str):
    dataset = Dataset(demo_dataset)
    assert [name.partition("-")[0] for name in layer_names(dataset)] == ["variational", "dis"]
    assert Gallery(dataset).name == layer_names(dataset)[0]
    assert any(text.startswith("dis,") for text in texts(inspect_figure(demo_dataset, None, "dis")))


def test_a_clip_without_flow_shows_its_frames(gallery: Gallery):
    view = replace(gallery.view(0), fields={}, flow_row={})
    figure = clip_figure(view, None)
    assert len(figure.axes) == 4
    assert shown_slots(view) == [0, 5, 11, 16]
    assert "motion" not in dict(key_figures(view, None))


def test_a_figure_that_does_not_exist_is_a_dash(gallery: Gallery):
    view = gallery.view(0)
    unknown = replace(view, flow_row={**view.flow_row, "fb_error_mean": math.nan})
    assert dict(key_figures(unknown, gallery.layer))["fwd-bwd gap"] == "-"


def test_hidden_pixels_are_orange(gallery: Gallery):
    view = gallery.view(0)
    field = view.fields[0, 4]
    picture = hidden_image(view.image(0), field)
    grey = (picture == picture[..., :1]).all(axis=2)
    np.testing.assert_array_equal(grey, field.visible[0].numpy())


def test_full_colour_is_judged_by_visible_pixels(gallery: Gallery):
    view = gallery.view(0)
    wild = {
        pair: FlowField(
            flow=torch.where(field.visible[:, None], field.flow, 1000.0), visible=field.visible
        )
        for pair, field in view.fields.items()
    }
    assert replace(view, fields=wild).px_per_slot() == view.px_a_slot()


def test_lengths_are_written_for_people():
    assert [px(length) for length in (0.1234, 6.83, 52.1, 99.6, 104.0)] == [
        "0.12 px",
        "6.8 px",
        "52 px",
        "100 px",
        "104 px",
    ]
