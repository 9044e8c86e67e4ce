"""Clips are found and shown as they are stored, layers in the order in which they were named."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from flow_cache import FlowField
from fluxshard.report.gallery import Gallery, flow_image, hidden_image, layer_names, px
from pipeline.building.add_layer import add_layer, layer_spec
from pipeline.building.make_dataset import make_dataset
from pipeline.planning.config import BuildConfig
from pipeline.source.inputs import find_sources
from shards import Dataset, UsageError, decode_clip
from shards.store import Store
from tests.clusters import in_this_process


def test_a_view_holds_the_stored_frames_and_all_fields(gallery: Gallery):
    view = gallery.view(1)
    np.testing.assert_array_equal(view.frames, decode_clip(view.video))
    np.testing.assert_array_equal(view.image(3), view.frames[3].transpose(1, 2, 0))
    assert view.levels == [1, 2, 4]
    assert set(view.fields) >= {(0, 1), (2, 4), (8, 12)}
    still = torch.zeros_like(view.fields[0, 1].flow)
    white = flow_image(FlowField(flow=still, visible=view.fields[0, 1].visible), 1.0)
    assert (white == 255).all()


def test_clips_are_found_by_key_and_by_its_start(gallery: Gallery):
    keys = gallery.dataset.clips["key"].to_pylist()
    assert [gallery.find(key) for key in keys] == list(range(len(keys)))
    lonely = next(key for key in keys if sum(other[0] == key[0] for other in keys) == 2)
    with pytest.raises(UsageError, match="several keys"):
        gallery.find(lonely[0])
    with pytest.raises(UsageError, match=keys[0]):
        gallery.find("no-such-clip")


def test_the_layer_that_the_build_named_first_is_shown(demo_dataset: str):
    dataset = Dataset(demo_dataset)
    assert [name.partition("-")[0] for name in layer_names(dataset)] == ["variational", "dis"]
    assert Gallery(dataset).name == layer_names(dataset)[0]


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
    assert replace(view, fields=wild).px_per_slot() == view.px_per_slot()


def test_lengths_are_written_for_people():
    assert [px(length) for length in (0.1234, 6.83, 52.1, 99.6, 104.0)] == [
        "0.12 px",
        "6.8 px",
        "52 px",
        "100 px",
        "104 px",
    ]


@pytest.fixture(scope="module")
def presets(demo_videos: list[str], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """One clip of one video with flow by two presets of DIS, and a third that came later."""
    store = Store(str(tmp_path_factory.mktemp("presets") / "dataset"))
    config = BuildConfig(
        size=(48, 64), frames=3, fps=Fraction(12), flow="dis:preset=fast,dis", levels=(1,)
    )
    (source, *_), _ = find_sources([str(Path(demo_videos[-1], "h264.mp4"))])
    with in_this_process() as client:
        make_dataset([source], [], store, config, client, lambda *_: None)
        opened = Dataset(store)
        spec = layer_spec(opened, "dis:preset=ultrafast", from_clips=False)
        add_layer(opened, spec, client, lambda *_: None)
    return Dataset(store)


def test_two_presets_of_one_estimator_are_two_layers_in_the_order_they_were_named(
    presets: Dataset,
) -> None:
    names = layer_names(presets)
    specs = [presets.manifest.layers[name].spec for name in names]
    assert [spec["estimator"] for spec in specs] == ["dis"] * 3
    found = [spec["params"]["preset"] for spec in specs]
    assert found[0] == "fast"
    assert {*found[1:]} == {"medium", "ultrafast"}, "`dis` names either"
    assert Gallery(presets).name == names[0]


def test_presets_give_other_flow_of_the_same_pairs(presets: Dataset) -> None:
    fast, medium = (Gallery(presets, name).view(0).fields for name in layer_names(presets)[:2])
    assert fast.keys() == medium.keys()
    assert any(not fast[pair].flow.equal(medium[pair].flow) for pair in fast)
