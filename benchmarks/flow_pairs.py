"""Pairs of frames for `flow_accuracy.py`: with ground truth, synthetic, and from real videos."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flow_cache.algebra import in_frame
from fluxshard.demo.scenes import random_scene

SIZE = (256, 384)  # of pairs from videos
VIDEOS = {".avi", ".mkv", ".mov", ".mp4", ".ogv", ".webm"}
LAYOUTS = (  # flow file, then the first and second picture and the occlusion mask beside it
    (r"(\d+)-flow_01\.flo", "{0}-img_0.png", "{0}-img_1.png", "{0}-occ_01.png"),
    (r"(\d+)-flow_10\.flo", "{0}-img_1.png", "{0}-img_0.png", "{0}-occ_10.png"),
    (r"(\d+)-gt\.flo", "{0}-img0.ppm", "{0}-img1.ppm", ""),
    (r"flow(10)\.flo", "frame10.png", "frame11.png", ""),
    (
        r"frame_(\d+)\.flo",
        "clean_frame_{0}.png",
        "clean_frame_{1:04}.png",
        "occlusions_frame_{0}.png",
    ),
    (r"flow_occ_(\d+)_10\.png", "image_0_{0}_10.png", "image_0_{0}_11.png", "flow_noc_{0}_10.png"),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """Two frames uint8 [2, 3, h, w], the true flow [2, h, w] and where it is known [h, w].

    visible [h, w] is True where a known pixel is seen in the second frame, None if nobody knows;
    truth_back [2, h, w] is the flow the other way, where known everywhere.
    """

    name: str
    kind: str  # "real", or "scene": synthetic
    frames: Tensor
    truth: Tensor
    known: Tensor
    visible: Tensor | None = None
    truth_back: Tensor | None = None


def ground_truth(folder: Path) -> Iterator[Case]:
    """Every pair in the subfolders of `folder`."""
    for file in sorted(folder.glob("*/*")):
        if file.name == "gt.npz":
            yield layers(file)
        for pattern, *names in LAYOUTS:
            if match := re.fullmatch(pattern, file.name):
                number = match[1]
                yield from_files(file, *(name.format(number, int(number) + 1) for name in names))


def resized(case: Case, size: tuple[int, int]) -> Case:
    """The pair at `size`; true flow and masks are those of the nearest pixel."""
    h, w = case.truth.shape[-2:]
    if (h, w) == size:
        return case
    frames = [
        cv2.resize(x.movedim(0, -1).numpy(), size[::-1], interpolation=cv2.INTER_AREA)
        for x in case.frames
    ]
    y = ((torch.arange(size[0]) + 0.5) * h / size[0]).long()
    x = ((torch.arange(size[1]) + 0.5) * w / size[1]).long()
    scale = torch.tensor([size[1] / w, size[0] / h]).view(2, 1, 1)
    return Case(
        name=case.name,
        kind=case.kind,
        frames=torch.from_numpy(np.stack(frames)).movedim(-1, 1).contiguous(),
        truth=case.truth[:, y][:, :, x] * scale,
        known=case.known[y][:, x],
        visible=None if case.visible is None else case.visible[y][:, x],
    )


def from_files(file: Path, first: str, second: str, mask: str) -> Case:
    frames = torch.stack([read_image(file.parent / name) for name in (first, second)])
    truth, known = read_flow(file)
    visible = None
    if mask and (file.parent / mask).exists():
        if mask.startswith("flow_noc"):
            visible = read_flow(file.parent / mask)[1]
        else:
            visible = (read_image(file.parent / mask)[0] < 128) & in_frame(truth[None])[0]
    name = f"{file.parent.name} {first.partition('.')[0]}"
    return Case(name=name, kind="real", frames=frames, truth=truth, known=known, visible=visible)


def layers(file: Path) -> Case:
    """The first pair of a sequence of pictures with exact flow and occlusion in one npz file."""
    exact = {name: torch.from_numpy(values[0]) for name, values in np.load(file).items()}
    pictures = [read_image(path) for path in sorted(file.parent.glob("frame_*.png"))[:2]]
    visible = ~(exact["occ_fwd"] | exact["outside_fwd"])
    return Case(
        name=f"{file.parent.name} frame_000",
        kind="real",
        frames=torch.stack(pictures),
        truth=exact["flow_fwd"].movedim(-1, 0),
        known=torch.ones_like(visible),
        visible=visible,
        truth_back=exact["flow_bwd"].movedim(-1, 0),
    )


def scenes(size: tuple[int, int]) -> Iterator[Case]:
    """Synthetic pairs of slow and fast motion."""
    for seed, speed in enumerate((1.0, 3.0, 8.0, 20.0)):
        scene = random_scene(seed, size, speed=speed, objects=4)
        yield Case(
            name=f"scene {seed}, {speed:.0f} px",
            kind="scene",
            frames=torch.from_numpy(scene.clip([0.0, 1.0])),
            truth=torch.from_numpy(scene.flow(0, 1)),
            known=torch.ones(size, dtype=torch.bool),
            visible=torch.from_numpy(scene.visible(0, 1)),
            truth_back=torch.from_numpy(scene.flow(1, 0)),
        )


def real_pairs(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Frames uint8 [2, 3, h, w], 1, 2 and 4 apart, of every video that has enough."""
    for path in sorted(path for path in folder.iterdir() if path.suffix in VIDEOS):
        pictures = []
        with av.open(str(path)) as container:
            for number, frame in zip(range(15), container.decode(video=0), strict=False):
                if number >= 10:
                    picture = frame.to_ndarray(format="rgb24")
                    pictures.append(cv2.resize(picture, SIZE[::-1], interpolation=cv2.INTER_AREA))
        if len(pictures) == 5 and np.ptp(pictures[0]) > 0:
            clip = torch.from_numpy(np.stack(pictures).transpose(0, 3, 1, 2).copy())
            for stride in (1, 2, 4):
                yield f"{path.name} +{stride}", clip[[0, stride]]


def read_image(path: Path) -> Tensor:
    """RGB uint8 [3, h, w]."""
    return torch.from_numpy(read_rgb(path, cv2.IMREAD_COLOR).transpose(2, 0, 1).copy())


def read_rgb(path: Path, flags: int) -> npt.NDArray[Any]:
    """Picture [h, w, 3] as OpenCV reads it, but in the order R, G, B."""
    picture = cv2.imread(str(path), flags)
    if picture is None:
        raise SystemExit(f"{path} is no picture that OpenCV reads")
    return picture[..., ::-1]


def read_flow(path: Path) -> tuple[Tensor, Tensor]:
    """Flow [2, h, w] and where it is known [h, w], of a Middlebury or KITTI file."""
    if path.suffix == ".flo":
        data = np.fromfile(path, np.float32)
        width, height = data[1:3].view(np.int32)
        flow: npt.NDArray[Any] = data[3:].reshape(height, width, 2)
        known: npt.NDArray[Any] = (np.abs(flow) < 1e8).all(axis=-1, keepdims=False)
    else:
        codes = read_rgb(path, cv2.IMREAD_UNCHANGED).astype(np.float32)
        flow, known = (codes[..., :2] - 2**15) / 64, codes[..., 2] > 0
    flow = np.where(known[..., None], flow, 0).astype(np.float32)
    return torch.from_numpy(flow).movedim(-1, 0).contiguous(), torch.from_numpy(known)
