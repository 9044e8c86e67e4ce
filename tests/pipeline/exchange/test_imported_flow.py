from dataclasses import replace
from pathlib import Path

import pytest
import torch

from flow_cache import estimate_clip, in_frame, load_estimator, visibility
from flow_cache.flow_files import write_flow
from pipeline.exchange.file_names import Found
from pipeline.exchange.imported_flow import ImportedFlow, imported_spec, read_files
from shards import Store, UsageError

SIZE = (32, 40)
PAIRS = ((0, 1), (1, 0))
FRAMES = torch.zeros(2, 3, *SIZE, dtype=torch.uint8)


@pytest.fixture
def flow() -> torch.Tensor:
    """[2, 2, h, w]: there and back, which agree but for a corner."""
    there = torch.full((2, *SIZE), 3.0)
    back = -there
    back[:, :8, :8] = 5
    return torch.stack([there, back])


@pytest.fixture
def folder(tmp_path: Path, flow: torch.Tensor) -> Store:
    for (i, j), field in zip(PAIRS, flow, strict=True):
        data = write_flow(field, torch.ones(SIZE, dtype=torch.bool), "flo")
        (tmp_path / f"{i}_{j}.flo").write_bytes(data)
    return Store(tmp_path)


def imported(folder: Store, pairs: tuple = PAIRS, kind: str = "flo") -> ImportedFlow:
    names = {(i, j): f"{i}_{j}.{kind}" for i, j in pairs}
    ways = ("forward", "backward")[: len(pairs)]
    found = Found(levels=(1,), directions=ways, clips={"a": names}, unused=0)
    _, digest = read_files(folder, names, SIZE)
    spec = imported_spec("x", found, {"a": digest}, SIZE)
    return ImportedFlow(spec=spec, folder=folder, names=names, sha256=digest)


def test_it_stands_in_for_an_estimator_also_for_equal_frames(
    folder: Store, flow: torch.Tensor
) -> None:
    files = imported(folder)
    fields = estimate_clip(files, FRAMES, files.spec)
    assert torch.equal(fields[0, 1].flow, flow[:1])
    expected = visibility(flow[:1], flow[1:], "fb-sundaram2010")
    assert torch.equal(fields[0, 1].visible, expected)
    assert not expected.all()


def test_without_a_way_back_what_leaves_the_frame_is_hidden(
    folder: Store, flow: torch.Tensor
) -> None:
    _, visible = imported(folder, PAIRS[:1]).clip(FRAMES, PAIRS[:1])
    assert torch.equal(visible, in_frame(flow[:1]))


def test_a_mask_is_taken_as_it_is_and_the_unknown_is_hidden(
    folder: Store, flow: torch.Tensor
) -> None:
    mask = torch.rand(SIZE, generator=torch.Generator().manual_seed(0)) > 0.5
    flow[0, 0, 4, 5] = torch.nan
    Path(folder.at("0_1.npz")).write_bytes(write_flow(flow[0], mask, "npz"))
    found, visible = imported(folder, PAIRS[:1], "npz").clip(FRAMES, PAIRS[:1])
    mask[4, 5] = False
    assert torch.equal(visible[0], mask)
    assert torch.equal(found, flow[:1].nan_to_num(nan=0.0))


def test_what_the_files_hold_names_the_layer(folder: Store, flow: torch.Tensor) -> None:
    first = imported(folder).spec
    assert first.estimator == "imported:x"
    assert first.layer.startswith("imported-x-")
    assert imported(folder).spec == first
    flow[0, 0, 0, 0] += 1
    Path(folder.at("0_1.flo")).write_bytes(write_flow(flow[0], torch.ones(SIZE) > 0, "flo"))
    assert imported(folder).spec.field_digest != first.field_digest


def test_files_that_change_meanwhile_are_noticed(folder: Store) -> None:
    files = replace(imported(folder), sha256="0" * 64)
    with pytest.raises(UsageError, match=r"changed while they were imported, such as 0_1.flo"):
        files.clip(FRAMES, PAIRS)


def test_files_of_another_size_damaged_or_gone_are_named(folder: Store) -> None:
    names = {(0, 1): "0_1.flo"}
    with pytest.raises(UsageError, match=r"0_1.flo is flow of 32x40 pixels, the clips are 64x40"):
        read_files(folder, names, (64, 40))
    Path(folder.at("0_1.flo")).write_bytes(b"PIEH")
    with pytest.raises(UsageError, match=r"0_1.flo is no flo file of flow, or damaged"):
        read_files(folder, names, SIZE)
    Path(folder.at("0_1.flo")).unlink()
    with pytest.raises(UsageError, match=r"0_1.flo is gone"):
        read_files(folder, names, SIZE)


def test_a_name_is_one_and_no_estimator_makes_more_of_it(folder: Store) -> None:
    found = Found(levels=(1,), directions=("forward",), clips={}, unused=0)
    with pytest.raises(UsageError, match=r"'imported:my flow' may hold letters"):
        imported_spec("my flow", found, {}, SIZE)
    files = imported(folder)
    with pytest.raises(ValueError, match=r"'imported:x' was imported from files"):
        load_estimator(files.name, **files.params)
    with pytest.raises(ValueError, match="knows no other frames"):
        files.pair(torch.zeros(1, 3, *SIZE), torch.zeros(1, 3, *SIZE))
