"""Files to a layer and a layer to files, there and back."""

from pathlib import Path

import pytest
import torch
from distributed import Client

from flow_cache import FlowSpec, decode_field
from flow_cache.flow_files import Kind, write_flow
from pipeline.building.add_layer import build_layer
from pipeline.building.job import Outcome
from pipeline.building.make_dataset import make_dataset
from pipeline.exchange.export_layer import export_layer
from pipeline.exchange.import_layer import imported_shards
from pipeline.source.inputs import find_sources
from shards import Dataset, Layer, ShardReader, Store, UsageError, verify
from tests.pipeline.exchange.conftest import CONFIG


@pytest.fixture(scope="module")
def exported(built: Path, client: Client, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The layer `dis` as .npz files."""
    folder, dataset = tmp_path_factory.mktemp("files"), Dataset(built)
    export_layer(dataset, dataset.layer("dis"), Store(folder), "npz", client, lambda *_: None)
    return folder


def imported(dataset: Path, folder: Path, client: Client, **options) -> tuple[Outcome, FlowSpec]:
    opened = Dataset(dataset)
    shards = imported_shards(opened, Store(folder), "back", client, lambda *_: None, **options)
    return build_layer(opened, shards, client, lambda *_: None, None), shards.specs[0]


def fields(dataset: Dataset, layer: Layer) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Flow and visibility of all pairs of the first and the last clip."""
    reader, found = ShardReader(dataset, layer), []
    for row in (0, len(dataset) - 1):
        pairs = [(i, j) for i, j in ((0, 1), (1, 0), (3, 4), (0, 2), (4, 2))]
        decoded = [decode_field(blob).field for blob in reader.fields(row, pairs)]
        found += [(field.flow, field.visible) for field in decoded]
    return found


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", ["npz", "png"])
def test_a_layer_comes_back_from_its_files_within_the_bound_of_imports(
    dataset: Path, exported: Path, client: Client, tmp_path: Path, kind: Kind
) -> None:
    before, folder = files_of(dataset), exported
    if kind == "png":
        folder, opened = tmp_path / "png", Dataset(dataset)
        export_layer(opened, opened.layer("dis"), Store(folder), kind, client, lambda *_: None)
    outcome, spec = imported(dataset, folder, client)
    assert (outcome.built, outcome.failed) == (len(Dataset(dataset).shards), {})
    assert (spec.levels, spec.directions) == ((1, 2), ("forward", "backward"))
    grown = Dataset(dataset)
    back, first = (fields(grown, grown.layer(name)) for name in ("imported:back", "dis"))
    for (flow, visible), (wanted, seen) in zip(back, first, strict=True):
        # Held to 1/32 px; KITTI's files round to 1/64.
        assert (flow - wanted).abs().max() <= 1 / 32 + 1 / 128
        assert torch.equal(visible, seen)
    assert not list(verify(Store(dataset)))
    del before["manifest.json"]
    assert before.items() < files_of(dataset).items(), "nothing else changes"
    assert imported(dataset, folder, client)[0].built == 0


def test_flow_is_stored_within_the_bound_whatever_the_files_hold(
    dataset: Path, exported: Path, client: Client, tmp_path: Path
) -> None:
    generator, visible = torch.Generator().manual_seed(0), torch.ones(CONFIG.size) > 0
    for name in files_of(exported):
        path = (tmp_path / "flo" / name).with_suffix(".flo")
        path.parent.mkdir(parents=True, exist_ok=True)
        flow = torch.randn(2, *CONFIG.size, generator=generator)
        path.write_bytes(write_flow(flow, visible, "flo"))
        if name.endswith("000003_000004.npz"):
            last = path.parent.name, flow
    _, spec = imported(dataset, tmp_path / "flo", client, levels=(1,))
    assert spec.levels == (1,)
    opened = Dataset(dataset)
    reader = ShardReader(opened, opened.layer("imported:back"))
    row = opened.clips["key"].to_pylist().index(last[0])
    (blob,) = reader.fields(row, [(3, 4)])
    assert (decode_field(blob).flow - last[1]).abs().max() <= spec.max_error_px


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.unlink(), r"1 of \d+ files are missing .1 of level 2.* --levels"),
        (lambda file: file.write_bytes(file.read_bytes()[:50]), r"is no npz file of flow, or dam"),
        (
            lambda file: file.write_bytes(
                write_flow(torch.zeros(2, 8, 8), torch.ones(8, 8) > 0, "npz")
            ),
            r"000002_000004.npz is flow of 8x8 pixels, the clips are 48x64",
        ),
    ],
)
def test_nothing_is_written_of_files_that_do_not_do(
    dataset: Path, exported: Path, client: Client, damage, message: str
) -> None:
    before, file = files_of(dataset), next(exported.rglob("000002_000004.npz"))
    sound = file.read_bytes()
    try:
        damage(file)
        with pytest.raises(UsageError, match=message):
            imported(dataset, exported, client)
    finally:
        file.write_bytes(sound)
    assert files_of(dataset) == before


def test_a_folder_that_holds_no_flow_is_named(
    dataset: Path, client: Client, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"/nowhere: there is no file of flow: name them"):
        imported(dataset, tmp_path / "nowhere", client)


def test_a_dataset_with_imported_flow_does_not_grow_and_says_why(
    dataset: Path, exported: Path, demo_videos: list[str], client: Client
) -> None:
    imported(dataset, exported, client)
    names = ("h264.mp4", "variable_rate.mp4")
    sources, _ = find_sources([str(Path(demo_videos[-1], name)) for name in names])
    with pytest.raises(UsageError, match=r"'imported:back' was imported from files; no estimator"):
        make_dataset(sources, [], Store(dataset), CONFIG, client, lambda *_: None)
