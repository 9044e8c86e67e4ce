"""Flow as other programs keep it, a file for each pair of frames: `.flo`, KITTI's PNG, `.npz`.

flo  Middlebury: float32 vectors; above 1e9 is "unknown". No visibility.
png  KITTI 2015: 16 bits, 64 steps a pixel around 2^15, and a channel that says what counts
npz  ours and easily anyone's: `flow` [2, h, w] or [h, w, 2], and `visible` [h, w], if known
"""

import io
import zipfile
from typing import Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float32
from torch import Tensor

Kind: TypeAlias = Literal["flo", "png", "npz"]
KINDS: tuple[Kind, ...] = ("flo", "png", "npz")
_MAGIC = np.float32(202021.25).tobytes()  # "PIEH"
_UNKNOWN = 1e9  # in .flo files, longer than this
_ZERO, _STEPS = 2**15, 64  # of KITTI's PNG
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, cv2.error)


def read_flow(
    data: bytes, kind: Kind
) -> tuple[Float32[Tensor, "2 h w"], Bool[Tensor, "h w"] | None]:
    """Flow in pixels, NaN where the file knows none; and visibility, where the file has it.

    Raises:
        ValueError: it is no such file, or it is damaged.
    """
    try:
        flow, visible = _READ[kind](data)
    except _UNREADABLE as error:
        raise ValueError(f"is no {kind} file of flow, or damaged: {error}") from error
    flow = np.where(np.isfinite(flow), flow, np.nan).astype(np.float32)
    return torch.from_numpy(flow), None if visible is None else torch.from_numpy(visible)


def write_flow(flow: Float32[Tensor, "2 h w"], visible: Bool[Tensor, "h w"], kind: Kind) -> bytes:
    """The bytes of a file; the same for the same arguments.

    A `.flo` file loses the visibility. A PNG holds 64ths of a pixel, and the flow of hidden pixels
    too, which readers that keep to KITTI's rules leave out.

    Raises:
        ValueError: a PNG cannot hold motion that long.
    """
    vectors, seen = flow.cpu().numpy(), visible.cpu().numpy()
    if kind == "flo":
        size = np.array(vectors.shape[:0:-1], "<i4").tobytes()
        return _MAGIC + size + vectors.transpose(1, 2, 0).astype("<f4").tobytes()
    if kind == "npz":
        file = io.BytesIO()
        np.savez_compressed(file, flow=vectors, visible=seen)
        return file.getvalue()
    steps = np.rint(vectors * _STEPS) + _ZERO
    if steps.min() < 0 or steps.max() >= 2**16:
        raise ValueError(
            f"motion of {np.abs(vectors).max():.1f} px does not fit KITTI's PNG, which holds less "
            f"than {_ZERO // _STEPS} px: write npz or flo"
        )
    picture = np.stack([seen, steps[1], steps[0]], -1).astype(np.uint16)  # as OpenCV orders: B G R
    return cv2.imencode(".png", picture)[1].tobytes()


Arrays = tuple[npt.NDArray[np.floating], npt.NDArray[np.bool_] | None]


def _read_flo(data: bytes) -> Arrays:
    if data[:4] != _MAGIC:
        raise ValueError(f"it begins with {data[:4]!r}, not with {_MAGIC!r}")
    width, height = np.frombuffer(data, "<i4", 2, 4).tolist()
    if min(width, height) < 1 or len(data) != 12 + 8 * width * height:
        raise ValueError(f"{len(data)} bytes cannot hold {height}x{width} vectors")
    flow = np.frombuffer(data, "<f4", offset=12).reshape(height, width, 2).transpose(2, 0, 1)
    return np.where((np.abs(flow) < _UNKNOWN).all(0), flow, np.nan), None


def _read_png(data: bytes) -> Arrays:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.dtype != np.uint16 or picture.ndim != 3:
        raise ValueError("it is no picture of three channels of 16 bits")
    counts, steps = picture[..., 0] > 0, picture[..., :0:-1].transpose(2, 0, 1)
    known = counts | steps.any(0)  # where nothing is known, all channels are 0
    return np.where(known, (steps - np.float32(_ZERO)) / _STEPS, np.nan), counts


def _read_npz(data: bytes) -> Arrays:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        if "flow" not in arrays:
            raise ValueError(f"it holds {', '.join(arrays) or 'nothing'}, but no `flow`")
        flow, visible = arrays["flow"], arrays.get("visible")
    if flow.ndim == 3 and flow.shape[0] != 2:
        flow = np.moveaxis(flow, -1, 0)
    if flow.ndim != 3 or flow.shape[0] != 2 or flow.dtype.kind != "f":
        raise ValueError(
            f"`flow` is {flow.dtype} {list(flow.shape)}; it must be fractions, [2, h, w] or "
            "[h, w, 2]"
        )
    if visible is not None and (visible.dtype != bool or visible.shape != flow.shape[1:]):
        raise ValueError(
            f"`visible` is {visible.dtype} {list(visible.shape)}; it must be bool "
            f"{list(flow.shape[1:])}, to go with `flow`"
        )
    return flow, visible


_READ = {"flo": _read_flo, "png": _read_png, "npz": _read_npz}
