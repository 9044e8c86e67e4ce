"""Files of a layer; `test_import_layer` has the way back."""

from pathlib import Path

import pytest
import torch
from distributed import Client

from flow_cache import decode_field
from flow_cache.flow_files import read_flow
from pipeline.exchange.export_layer import export_layer
from shards import Dataset, ShardReader, Store, UsageError


def test_each_field_is_a_file_and_holds_what_is_stored(
    built: Path, client: Client, tmp_path: Path
) -> None:
    dataset, seen = Dataset(built), []
    layer = dataset.layer("dis")
    written = export_layer(
        dataset, layer, Store(tmp_path), "flo", client, lambda *step: seen.append(step)
    )
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written == len(files) == len(dataset) * 2 * (4 + 2)
    assert seen[-1] == ("files", len(dataset), len(dataset))
    key = ShardReader(dataset).value(len(dataset) - 1, "key")
    (blob,) = ShardReader(dataset, layer).fields(len(dataset) - 1, [(2, 0)])
    stored = decode_field(blob).field
    flow, visible = read_flow((tmp_path / key / "000002_000000.flo").read_bytes(), "flo")
    assert torch.equal(flow, stored.flow[0])
    assert visible is None


def test_motion_that_a_png_cannot_hold_is_named(
    built: Path, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flow_cache.flow_files._STEPS", 2**20)
    dataset = Dataset(built)
    with pytest.raises(UsageError, match=r"_00000\d\.png: motion of .* write npz or flo"):
        export_layer(dataset, dataset.layer("dis"), Store(tmp_path), "png", client, lambda *_: None)
    assert not list(tmp_path.rglob("*.png"))
