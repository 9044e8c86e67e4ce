import io
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from flow_cache.flow_files import KINDS, Kind, read_flow, write_flow

SIZE = (6, 9)


def field(step: float = 1 / 16, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Flow in steps of so many pixels, and visibility."""
    generator = torch.Generator().manual_seed(seed)
    flow = torch.randn(2, *SIZE, generator=generator).mul(20 / step).round() * step
    return flow, torch.rand(SIZE, generator=generator) > 0.3


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_comes_back(kind: Kind) -> None:
    """Exactly, also from a PNG, as stored flow stands on steps of a power of two."""
    flow, visible = field()
    data = write_flow(flow, visible, kind)
    assert data == write_flow(flow, visible, kind)
    found, seen = read_flow(data, kind)
    assert torch.equal(found, flow)
    if kind == "flo":
        assert seen is None
    else:
        assert seen is not None
        assert torch.equal(seen, visible)


def test_other_programs_read_what_is_written(tmp_path) -> None:
    """OpenCV the .flo file; and the PNG is KITTI's: blue counts, green is dy, red is dx."""
    flow, visible = field()
    (tmp_path / "x.flo").write_bytes(write_flow(flow, visible, "flo"))
    read = np.asarray(cv2.readOpticalFlow(str(tmp_path / "x.flo")))
    assert np.array_equal(read.transpose(2, 0, 1), flow.numpy())
    data = np.frombuffer(write_flow(flow, visible, "png"), np.uint8)
    picture = np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED), np.float64)
    assert np.array_equal(picture[..., 0] == 1, visible.numpy())
    assert np.array_equal((picture[..., 2] - 2**15) / 64, flow[0].numpy())
    assert np.array_equal((picture[..., 1] - 2**15) / 64, flow[1].numpy())


def test_a_png_keeps_to_64ths_of_a_pixel_and_below_512() -> None:
    flow, visible = torch.full((2, *SIZE), 0.3), torch.ones(SIZE, dtype=torch.bool)
    assert (read_flow(write_flow(flow, visible, "png"), "png")[0] - flow).abs().max() <= 1 / 128
    flow[1, 2, 3] = -512
    assert read_flow(write_flow(flow, visible, "png"), "png")[0][1, 2, 3] == -512
    flow[1, 2, 3] = 512
    with pytest.raises(ValueError, match=r"motion of 512\.0 px .* less than 512 px: write npz"):
        write_flow(flow, visible, "png")


def test_what_a_file_does_not_know_is_no_number() -> None:
    flow, _ = field()
    flow[0, 1, 2], flow[1, 3, 4] = 1e10, 1666666752  # Middlebury's mark, and its own files'
    found, _ = read_flow(write_flow(flow, torch.ones(SIZE) > 0, "flo"), "flo")
    assert found.isnan().all(0).nonzero().tolist() == [[1, 2], [3, 4]]
    kitti = np.full((*SIZE, 3), 2**15, np.uint16)
    kitti[..., 0], kitti[2, 5] = 1, 0
    found, visible = read_flow(cv2.imencode(".png", kitti)[1].tobytes(), "png")
    assert visible is not None
    assert (~visible).nonzero().tolist() == found.isnan().all(0).nonzero().tolist() == [[2, 5]]
    assert found.nan_to_num().eq(0).all()


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_an_npz_may_hold_vectors_last_and_no_visibility(kind: type) -> None:
    flow: Any = np.arange(2 * 6 * 9).astype(kind).reshape(2, 6, 9)
    for layout in (flow, flow.transpose(1, 2, 0)):
        found, visible = read_flow(npz(flow=layout), "npz")
        assert visible is None
        assert np.array_equal(found.numpy(), flow)


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (b"", "flo", "begins with b''"),
        (b"PIEH" + np.array([9, 6], "<i4").tobytes() + bytes(8), "flo", "cannot hold 6x9 vectors"),
        (b"PIEH" + np.array([-1, 6], "<i4").tobytes(), "flo", "cannot hold 6x-1 vectors"),
        (b"PIEH", "flo", "is no flo file"),
        (b"no picture", "png", "three channels of 16 bits"),
        (b"", "png", "is no png file"),
        (cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes(), "png", "of 16 bits"),
        (b"PK\3\4 cut", "npz", "is no npz file"),
        (npz(other=np.zeros(3)), "npz", "holds other, but no `flow`"),
        (npz(flow=np.zeros((3, 4, 5), np.float32)), "npz", r"`flow` is float32 \[5, 3, 4\]"),
        (npz(flow=np.zeros((2, 4, 5), int)), "npz", r"`flow` is int64"),
        (npz(flow=np.array([{}], object)), "npz", "is no npz file"),
        (npz(flow=np.zeros((2, 4, 5)), visible=np.ones((4, 5))), "npz", "`visible` is float64"),
    ],
)
def test_what_is_no_flow_is_a_sentence(data: bytes, kind: Kind, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_flow(data, kind)
