"""Layers that are added to a finished dataset, and datasets that grow with them."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from distributed import Client

from flow_cache.coding.codec import decode_field
from flow_cache.estimators import load_estimator
from flow_cache.estimators.estimate import estimate_clip
from flow_cache.reuse.catalog import Catalog
from pipeline.building.add_layer import LayerShards, add_layer, layer_spec
from pipeline.building.job import Outcome
from pipeline.building.make_dataset import make_dataset
from pipeline.planning.config import BuildConfig
from pipeline.records import Source
from pipeline.source import rgb
from pipeline.source.inputs import find_sources
from shards import (
    Dataset,
    ShardReader,
    Store,
    clip_video,
    decode_clip,
    read_manifest,
    verify,
    write_manifest,
)
from shards.merge import merge
from tests.clusters import in_this_process

CONFIG = BuildConfig(
    size=(48, 64), frames=5, fps=Fraction(12), flow="dis", clips_per_shard=8, levels=(1, 2)
)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with in_this_process() as client:
        yield client


@pytest.fixture(scope="module")
def videos(demo_videos: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[Source]:
    folder = tmp_path_factory.mktemp("two")
    for name in ("h264.mp4", "vp9.webm"):
        shutil.copy(Path(demo_videos[-1], name), folder)
    return find_sources([str(folder)])[0]


@pytest.fixture(scope="module")
def built(videos: list[Source], client: Client, tmp_path_factory: pytest.TempPathFactory) -> Path:
    url = tmp_path_factory.mktemp("built") / "dataset"
    make_dataset(videos, [], Store(url), CONFIG, client, lambda *_: None)
    return url


@pytest.fixture
def dataset(built: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(built, tmp_path / "dataset"))


def contents(url: Path, pattern: str = "**/*") -> dict[str, bytes]:
    return {str(p.relative_to(url)): p.read_bytes() for p in url.glob(pattern) if p.is_file()}


def add_flow(
    url: Path,
    client: Client,
    estimator: str = "variational",
    catalog: Catalog | None = None,
    *,
    from_clips: bool = False,
) -> Outcome:
    opened = Dataset(str(url))
    spec = layer_spec(opened, estimator, from_clips=from_clips)
    outcome = add_layer(opened, spec, client, lambda *_: None, catalog)
    assert not outcome.failed
    return outcome


def test_a_layer_added_later_is_the_layer_of_a_build_and_touches_nothing_else(
    dataset: Path, videos: list[Source], client: Client, tmp_path: Path
):
    before = contents(dataset)
    del before["manifest.json"]
    digest = Dataset(str(dataset)).digest
    outcome = add_flow(dataset, client)
    assert outcome.built == len(Dataset(str(dataset)).shards)
    assert before.items() <= contents(dataset).items()
    assert Dataset(str(dataset)).digest == digest
    assert list(verify(Store(dataset))) == []
    both = tmp_path / "both"
    make_dataset(
        videos, [], Store(both), replace(CONFIG, flow="dis,variational"), client, lambda *_: None
    )
    assert contents(both, "flow/**/*") == contents(dataset, "flow/**/*")


def test_adding_a_layer_again_changes_nothing_and_a_lost_shard_is_made_again(
    dataset: Path, client: Client
):
    add_flow(dataset, client)
    before = contents(dataset)
    assert add_flow(dataset, client).built == 0
    assert contents(dataset) == before
    lost = next(dataset.glob("flow/variational-*/000001.parquet"))
    lost.unlink()
    lost.with_name(".unfinished-x").write_bytes(b"half")
    assert add_flow(dataset, client).built == 1
    assert contents(dataset) == before


def test_flow_of_the_stored_clips_is_another_layer_and_is_what_it_says(
    dataset: Path, client: Client
):
    add_flow(dataset, client, "dis", from_clips=True)
    opened = Dataset(str(dataset))
    assert [layer.rpartition("-")[0] for layer in opened.manifest.layers] == ["dis", "dis"]
    with pytest.raises(ValueError, match=r"'dis' is ambiguous.*dis-\w+ \(from clips\)"):
        opened.layer("dis")
    spec = layer_spec(opened, "dis", from_clips=True)
    layer = opened.layer(spec.digest[:8])
    reader = ShardReader(opened, layer)
    frames = torch.from_numpy(decode_clip(reader.member(3, "mp4")))
    expected = estimate_clip(load_estimator("dis"), frames, spec, [(0, 1)])[0, 1]
    (blob,) = reader.fields(3, [(0, 1)])
    stored = decode_field(blob).field
    assert (stored.flow - expected.flow).abs().max() <= spec.max_error_px
    assert torch.equal(stored.visible, expected.visible)


@pytest.mark.parametrize("from_clips", [False, True])
def test_an_added_layer_is_copied_where_it_exists(
    dataset: Path, client: Client, tmp_path: Path, from_clips: bool
):
    catalog = Catalog(Store(tmp_path / "catalog"))
    twin = Path(shutil.copytree(dataset, tmp_path / "twin"))
    add_flow(dataset, client, catalog=catalog, from_clips=from_clips)
    outcome = add_flow(twin, client, catalog=catalog, from_clips=from_clips)
    assert not outcome.costs.computed.total()
    assert outcome.costs.reused.total()
    assert contents(twin) == contents(dataset)


def test_flow_of_clips_is_not_taken_from_clips_of_another_quality(
    dataset: Path, videos: list[Source], client: Client, tmp_path: Path
):
    catalog = Catalog(Store(tmp_path / "catalog"))
    add_flow(dataset, client, catalog=catalog, from_clips=True)
    coarse = tmp_path / "coarse"
    make_dataset(videos, [], Store(coarse), replace(CONFIG, crf=35), client, lambda *_: None)
    assert not add_flow(coarse, client, catalog=catalog, from_clips=True).costs.reused


def test_all_layers_grow_with_the_dataset(
    dataset: Path, demo_videos: list[str], videos: list[Source], client: Client, tmp_path: Path
):
    add_flow(dataset, client)
    add_flow(dataset, client, from_clips=True)
    old = contents(dataset, "**/*.tar")
    shutil.copy(Path(demo_videos[-1], "variable_rate.mp4"), tmp_path)
    (more,), _ = find_sources([str(tmp_path / "variable_rate.mp4")])
    outcome = make_dataset([*videos, more], [], Store(dataset), CONFIG, client, lambda *_: None)
    assert outcome.built
    assert list(verify(Store(dataset))) == []
    grown = Dataset(str(dataset))
    assert len(grown.manifest.layers) == 3
    for layer in grown.manifest.layers:
        assert len(grown.fields(grown.layer(layer))) == len(grown.clips)
    assert old.items() < contents(dataset, "**/*.tar").items()


@pytest.mark.parametrize(
    ("what", "value", "named"),
    [
        ("flow_cache.estimators.opencv_dis.DisFlow.revision", "opencv-99", "opencv-99"),
        (
            "pipeline.building.job.FRAMES_REVISION",
            {"source": 99},
            "frames are of revision 99, its are 1",
        ),
    ],
)
def test_a_dataset_does_not_grow_with_an_estimator_or_frames_that_changed(
    dataset: Path,
    demo_videos: list[str],
    videos: list[Source],
    client: Client,
    monkeypatch,
    what,
    value,
    named,
):
    monkeypatch.setattr(what, value)
    again = make_dataset(videos, [], Store(dataset), CONFIG, client, lambda *_: None)
    assert again.built == 0, "nothing to build is no reason to refuse"
    more, _ = find_sources([str(Path(demo_videos[-1], "variable_rate.mp4"))])
    with pytest.raises(ValueError, match=rf"layer dis-.* cannot be extended here.*{named}"):
        make_dataset([*videos, *more], [], Store(dataset), CONFIG, client, lambda *_: None)


def test_sources_that_are_gone_or_changed_are_told_and_clips_can_stand_in(
    dataset: Path, client: Client, tmp_path: Path
):
    opened = Dataset(str(dataset))
    spec = layer_spec(opened, "variational", from_clips=False)
    moved = {}
    for path in opened.clips["path"].unique().to_pylist():
        moved[path] = shutil.move(path, tmp_path)
    try:
        with pytest.raises(ValueError, match=r"2 of 2 source videos are gone.*--from-clips"):
            add_layer(opened, spec, client, lambda *_: None)
        add_flow(dataset, client, from_clips=True)
        for path in moved:
            Path(path).write_bytes(b"something else")
        outcome = add_layer(opened, spec, client, lambda *_: None)
        assert len(outcome.failed) == len(opened.shards)
        assert "is not the video that clip" in next(iter(outcome.failed.values()))
        assert outcome.exit_code(strict=False) == 1
        assert spec.layer not in Dataset(str(dataset)).manifest.layers
    finally:
        for path, place in moved.items():
            shutil.move(place, path)


def test_a_task_for_every_shard_has_its_clips(built: Path):
    opened = Dataset(str(built))
    shards = LayerShards(opened, layer_spec(opened, "dis", from_clips=False))
    for task, name in zip(shards.tasks(shards.sizes), opened.shards, strict=True):
        stored = pq.read_table(built / "clips" / f"{name}.parquet", columns=["key"])
        assert task.rows["key"].to_pylist() == stored["key"].to_pylist()


def test_flow_of_stored_clips_is_of_the_revision_that_decodes_them(built: Path):
    opened = Dataset(str(built))
    revisions = [
        layer_spec(opened, "dis", from_clips=from_clips).frames_revision
        for from_clips in (False, True)
    ]
    assert revisions == [rgb.REVISION, clip_video.REVISION]
    assert revisions[0] != revisions[1]


def test_levels_may_differ_and_must_fit_the_clips(built: Path):
    opened = Dataset(str(built))
    assert layer_spec(opened, "dis", from_clips=False, levels=(1, 4)).levels == (1, 4)
    with pytest.raises(ValueError, match="below the 5 frames"):
        layer_spec(opened, "dis", from_clips=False, levels=(8,))


def test_a_merged_dataset_takes_no_layer_and_no_videos(
    built: Path, demo_videos: list[str], client: Client, tmp_path: Path
):
    other, _ = find_sources([str(Path(demo_videos[-1], "variable_rate.mp4"))])
    make_dataset(other, [], Store(tmp_path / "other"), CONFIG, client, lambda *_: None)
    merge([Store(built), Store(tmp_path / "other")], Store(tmp_path / "merged"))
    with pytest.raises(ValueError, match=r"refers to the shards of .*add the layer to each"):
        add_flow(tmp_path / "merged", client)
    with pytest.raises(ValueError, match=r"is merged of .*add the videos to one of these"):
        make_dataset(other, [], Store(tmp_path / "merged"), CONFIG, client, lambda *_: None)


@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_a_damaged_shard_of_a_layer_is_made_again_and_never_blessed(
    dataset: Path, client: Client, kind: str
):
    before = contents(dataset)
    path = next(dataset.glob(f"flow/*/000000.{kind}"))
    if kind == "tar":
        path.unlink()
    else:
        path.write_bytes(next(dataset.glob("flow/*/000001.parquet")).read_bytes())
    outcome = add_flow(dataset, client, "dis")
    assert outcome.built == 1
    assert [warning.partition(": ")[0] for warning in outcome.costs.warnings] == [str(path)]
    assert contents(dataset) == before


def test_a_layer_that_would_come_out_otherwise_fails_and_keeps_its_digest(
    dataset: Path, client: Client
):
    store = Store(dataset)
    manifest = read_manifest(store)
    (layer,) = manifest.layers.values()
    digests = {**layer.shards, "000000": "0" * 64}
    write_manifest(store, replace(manifest, layers={layer.name: replace(layer, shards=digests)}))
    before, opened = contents(dataset), Dataset(store)
    spec = layer_spec(opened, "dis", from_clips=False)
    outcome = add_layer(opened, spec, client, lambda *_: None)
    assert list(outcome.failed) == ["000000"]
    assert "cannot be made again" in outcome.failed["000000"]
    assert contents(dataset) == before
