"""Frames, flow and visibility show the same part of the picture, of the same size and side."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_cache import FlowField, in_frame, warp
from fluxshard.demo.scenes import random_scene
from trainer.spatial.transform import SpatialTransform

STORED = (48, 64)
TRUTH = torch.from_numpy(random_scene(3, STORED, speed=4.0).flow(0.0, 1.0))[None].float()


@st.composite
def transforms(draw: st.DrawFn, *, resizes: bool = True) -> SpatialTransform:
    height, width = draw(st.integers(8, 48)), draw(st.integers(8, 64))
    size = (draw(st.integers(4, height)), draw(st.integers(4, width)))
    return SpatialTransform(
        stored=STORED,
        top=draw(st.integers(0, 48 - height)),
        left=draw(st.integers(0, 64 - width)),
        height=height,
        width=width,
        size=size if resizes else (height, width),
        flip=draw(st.booleans()),
    )


def pictures(count: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 3, *STORED), dtype=np.uint8)


@given(transforms(resizes=False))
@settings(max_examples=30, deadline=None)
def test_a_box_holds_the_stored_pixels(space: SpatialTransform) -> None:
    picture, out = pictures()[0], np.zeros((3, *space.size), np.uint8)
    space.write([*picture], out)
    box = picture[:, space.top : space.top + space.height, space.left : space.left + space.width]
    assert (out == (box[..., ::-1] if space.flip else box)).all()


@given(transforms())
@settings(max_examples=30, deadline=None)
def test_the_host_and_the_device_write_the_same(space: SpatialTransform) -> None:
    frames = pictures(2)
    out = np.zeros((2, 3, *space.size), np.uint8)
    for picture, place in zip(frames, out, strict=True):
        space.write([*picture], place)
    assert (space.on_frames(torch.from_numpy(frames)).numpy() == out).all()


def test_resized_pictures_are_those_of_pil() -> None:
    from PIL import Image

    space = SpatialTransform(stored=STORED, top=4, left=8, height=40, width=50, size=(17, 31))
    picture, out = pictures()[0], np.zeros((3, 17, 31), np.uint8)
    space.write([*picture], out)
    box = Image.fromarray(picture[:, 4:44, 8:58].transpose(1, 2, 0))
    theirs = np.asarray(box.resize((31, 17), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert np.abs(out.astype(int) - theirs.astype(int)).max() <= 1


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    ("box", "size"), [((40, 52), (40, 52)), ((40, 52), (20, 26)), ((44, 60), (33, 20))]
)
def test_flow_leads_from_what_is_shown_to_what_is_shown(
    box: tuple[int, int], size: tuple[int, int], flip: bool
) -> None:
    """The second picture, fetched along the flow, is the first one: before and after."""
    rows = torch.arange(48.0)[:, None]
    columns = torch.arange(64.0)
    dx, dy = 3.0, -2.0

    def seen(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Smooth, so that resizing costs it little."""
        return 128 + 60 * torch.sin(x / 9) + 60 * torch.cos(y / 7) + 0 * x * y

    first, second = seen(columns, rows), seen(columns - dx, rows - dy)
    frames = torch.stack([first, second])[:, None].expand(-1, 3, -1, -1).round().byte()
    flow = torch.tensor([dx, dy]).view(1, 2, 1, 1).expand(1, 2, 48, 64).contiguous()
    field = FlowField(flow=flow, visible=in_frame(flow))
    space = SpatialTransform(
        stored=STORED, top=3, left=2, height=box[0], width=box[1], size=size, flip=flip
    )
    shown, moved = space.on_frames(frames).float(), space.on_flow(field)
    assert moved.flow[0, :, 0, 0].tolist() == pytest.approx(
        [(-dx if flip else dx) * size[1] / box[1], dy * size[0] / box[0]]
    )
    fetched = warp(shown[1:], moved.flow)[0, 0]
    inside = moved.visible[0]
    assert 0.6 < inside.float().mean() < 1
    assert (fetched - shown[0, 0]).abs()[inside].max() < 6
    wrong = warp(shown[1:], -moved.flow)[0, 0]
    assert (wrong - shown[0, 0]).abs()[inside].max() > 20


@given(transforms())
@settings(max_examples=30, deadline=None)
def test_a_visible_pixel_has_visible_sources_and_stays_in_the_box(space: SpatialTransform) -> None:
    hidden = torch.zeros(1, *STORED, dtype=torch.bool)
    hidden[0, 20:23, 30:33] = True
    field = FlowField(flow=TRUTH, visible=~hidden)
    shown = space.on_flow(field)
    assert shown.flow.shape[-2:] == space.size
    assert not (shown.visible & ~in_frame(shown.flow)).any()
    box = hidden[:, *space.box].float()[:, None]
    touched = F.interpolate(box, size=space.size, mode="bilinear", antialias=True)[:, 0] > 1e-6
    touched = touched.flip(-1) if space.flip else touched
    assert not (shown.visible & touched).any()


def test_what_lies_outside_the_picture_is_refused() -> None:
    inside = SpatialTransform(stored=STORED, top=0, left=0, height=48, width=64, size=(48, 64))
    assert not inside.resizes
    wrong: dict[str, Any]
    for wrong in ({"top": 1}, {"left": -1}, {"height": 0}, {"width": 65}, {"size": (0, 4)}):
        with pytest.raises(ValueError, match="must lie inside the picture"):
            replace(inside, **wrong)
    out = np.zeros((3, 48, 64), np.uint8)
    with pytest.raises(ValueError, match=re.escape("a picture of (4, 64) for a place of")):
        inside.write([np.zeros((4, 64), np.uint8)] * 3, out)
    with pytest.raises(ValueError, match="for a place of"):
        inside.write([np.zeros(STORED, np.uint8)] * 3, out[:, :4])
