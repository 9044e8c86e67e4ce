"""The figure of a clip shows the right frames, flow and figures."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from flow_cache.color import flow_to_rgb
from fluxshard.report.clip_figure import clip_figure, inspect_figure, key_figures, shown_slots
from fluxshard.report.gallery import Gallery, px
from shards import UsageError


def texts(figure: Figure) -> set[str]:
    written = {text.get_text() for text in figure.texts}
    for ax in figure.axes:
        written |= {ax.get_title(), ax.get_ylabel()}
    return written


def test_frames_flow_of_every_level_and_occlusion_are_shown(gallery: Gallery):
    view = gallery.view(0)
    figure = clip_figure(view, gallery.layer)
    assert len(figure.axes) == 4 * (1 + 3 + 1) + 1  # frames, three levels, occlusion; the wheel
    assert {"frame 0", "0 → 1", "8 → 10", "12 → 16", view.clip.key} <= texts(figure)
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


def test_a_layer_that_is_not_there_is_refused(demo_dataset: str):
    with pytest.raises(UsageError, match="layers there"):
        inspect_figure(demo_dataset, None, "raft_large")


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


def test_the_clip_and_the_layer_that_are_named_are_shown(gallery: Gallery, demo_dataset: str):
    key = gallery.dataset.clips["key"][3].as_py()
    assert key in texts(inspect_figure(demo_dataset, key))
    assert any(text.startswith("dis,") for text in texts(inspect_figure(demo_dataset, None, "dis")))


def test_text_from_users_is_no_formula_and_no_markup(gallery: Gallery):
    view = gallery.view(0)
    name = r"Title [dQw4] $\frac{1}{0}$.mp4"
    clip = replace(view.clip, path=f"/videos/{name}", caption="costs $5 or $6")
    figure = clip_figure(replace(view, clip=clip), gallery.layer)
    assert {"costs $5 or $6", name} <= texts(figure)
    figure.savefig(io.BytesIO(), format="png", dpi=20)
