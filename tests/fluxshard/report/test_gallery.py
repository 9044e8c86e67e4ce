"""Which flow a report shows first, and in what order."""

from fractions import Fraction
from pathlib import Path

import pytest

from fluxshard.report.gallery import Gallery, layer_names
from pipeline.building.add_layer import add_layer, layer_spec
from pipeline.building.make_dataset import make_dataset
from pipeline.cluster import connect
from pipeline.planning.config import BuildConfig
from pipeline.source.inputs import find_sources
from shards import Dataset
from shards.store import Store


@pytest.fixture(scope="module")
def presets(demo_videos: list[str], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """One clip of one video with flow by two presets of DIS, and a third that came later."""
    store = Store(str(tmp_path_factory.mktemp("presets") / "dataset"))
    config = BuildConfig(
        size=(48, 64), frames=3, fps=Fraction(12), flow="dis:preset=fast,dis", levels=(1,)
    )
    (source, *_), _ = find_sources([str(Path(demo_videos[-1], "h264.mp4"))])
    with connect(None, 1) as client:
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
    assert [spec["params"]["preset"] for spec in specs] == ["fast", "medium", "ultrafast"]
    assert Gallery(presets).name == names[0]


def test_presets_give_other_flow_of_the_same_pairs(presets: Dataset) -> None:
    fast, medium = (Gallery(presets, name).view(0).fields for name in layer_names(presets)[:2])
    assert fast.keys() == medium.keys()
    assert any(not fast[pair].flow.equal(medium[pair].flow) for pair in fast)
