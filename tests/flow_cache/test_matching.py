from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.flow_hops import read_clip
from benchmarks.visibility_scenes import (
    Counts,
    analytic_scenes,
    counts,
    f1,
    frames_of,
    still_noise,
    tally,
    truth_of,
)
from flow_cache import FlowField, load_estimator, matching
from flow_cache.algebra import in_frame
from flow_cache.matching import matched_visibility
from flow_cache.occlusion import visibility

ESTIMATORS = ("dis", "variational")
QUIET_VIDEOS = ("cat.mp4", "friday.mp4")


Moving = list[tuple[Tensor, FlowField]]


@pytest.fixture(scope="module")
def moving() -> Moving:
    """Frames and truth of every analytic scene."""
    return [(frames_of(scene), truth_of(scene)) for _, scene in analytic_scenes(0)]


def matched(frames: Tensor, flows: Tensor) -> FlowField:
    return FlowField(flow=flows, visible=matched_visibility(frames, flows))


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.usefixtures("as_in_production")
def test_estimated_flow_gives_nearly_the_true_visibility(name: str, moving: Moving) -> None:
    parts: dict[tuple[str, str], list[Counts]] = defaultdict(list)
    for frames, truth in moving:
        flows = load_estimator(name).clip(frames, [(0, 1), (1, 0)])[0]
        masks = {
            "matched": matched_visibility(frames, flows),
            "flow alone": visibility(flows, flows.flip(0), "fb-footprint"),
        }
        for kind, seen in masks.items():
            for n, way in enumerate(("forward", "backward")):
                parts[kind, way].append(counts(seen[n], truth.visible[n]))
    for way in ("forward", "backward"):
        assert (f1(parts["matched", way]) or 0) >= 0.90
        assert (f1(parts["flow alone", way]) or 1) < 0.85


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_still_noisy_picture_is_visible_to_its_border(name: str) -> None:
    frames = still_noise(3, (96, 128))[:2]
    flows = load_estimator(name).clip(frames, [(0, 1), (1, 0)])[0]
    assert flows.any()
    assert matched_visibility(frames, flows).all()


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("video", QUIET_VIDEOS)
def test_the_quiet_ring_of_a_video_is_visible(name: str, video: str, data_dir: Path) -> None:
    frames = read_clip(data_dir / "videos" / video)[:2]
    flows = load_estimator(name).clip(frames, [(0, 1), (1, 0)])[0]
    quiet, lost, *_ = tally([matched(frames, flows)]).tolist()
    assert quiet > 500
    assert lost < 0.02 * quiet
    before = FlowField(flow=flows, visible=visibility(flows, flows.flip(0), "fb-sundaram2010"))
    assert tally([before])[1] > 0.2 * quiet


def square_scene(shift: int) -> tuple[Tensor, Tensor, Tensor]:
    """A square that moves right over a still ground: frames, true flow, true visibility."""
    random = np.random.default_rng(0)
    ground, texture = (random.integers(0, 256, (3, 64, 96), np.uint8) for _ in range(2))
    frames, flow = np.stack((ground, ground)), np.zeros((2, 2, 64, 96), np.float32)
    visible = np.ones((2, 64, 96), bool)
    for n, (left, onward) in enumerate(((30, shift), (30 + shift, -shift))):
        frames[n, :, 20:44, left : left + 24] = texture[:, :24, :24]
        flow[n, 0, 20:44, left : left + 24] = onward
    visible[0, 20:44, 54 : 54 + shift] = False
    visible[1, 20:44, 30 : 30 + shift] = False
    return tuple(torch.from_numpy(x) for x in (frames, flow, visible))  # type: ignore[return-value]


def test_flow_that_is_off_at_an_outline_is_put_right() -> None:
    frames, flow, visible = square_scene(6)
    assert torch.equal(matched_visibility(frames, flow)[0, 22:42], visible[0, 22:42])
    fat = torch.nn.functional.max_pool2d(flow.abs(), 7, 1, 3) * torch.tensor([1, -1]).view(
        2, 1, 1, 1
    )
    wrong = (visibility(fat, fat.flip(0), "fb-footprint") != visible).sum()
    assert (matched_visibility(frames, fat) != visible).sum() < 0.2 * wrong


def test_the_ways_there_and_back_mirror_each_other() -> None:
    frames, flow, _ = square_scene(6)
    there, back = matched_visibility(frames, flow)
    assert torch.equal(matched_visibility(frames.flip(0), flow.flip(0)), torch.stack((back, there)))


def test_what_leaves_the_frame_is_hidden_whatever_looks_like_it() -> None:
    frames = torch.full((2, 3, 40, 60), 90, dtype=torch.uint8)
    flow = torch.zeros(2, 2, 40, 60)
    flow[0, 0], flow[1, 0] = 4, -4
    flow[:, :, 20:] *= 2
    seen = matched_visibility(frames, flow)
    assert not seen[~in_frame(flow)].any()
    assert seen[in_frame(flow)].float().mean() > 0.98  # all but where the two motions shear


def test_only_what_does_not_lead_back_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    frames, flow, visible = square_scene(6)
    looked_at = []

    def counted(picture: np.ndarray, *others: np.ndarray) -> np.ndarray:
        looked_at.append(picture[..., 0].size)
        return differences(picture, *others)

    differences = matching._differences
    monkeypatch.setattr(matching, "_differences", counted)
    matched_visibility(frames, flow)
    hidden = int((~visible[0]).sum())
    assert hidden < max(looked_at) < 8 * hidden
    looked_at.clear()
    assert matched_visibility(frames, torch.zeros_like(flow)).all()
    assert not looked_at


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 3e38])
def test_flow_that_is_no_number_is_hidden(value: float) -> None:
    frames, flow, _ = square_scene(6)
    flow[:, :, :9, :9] = value
    seen = matched_visibility(frames, flow)
    assert not seen[:, :9, :9].any()
    assert seen[:, 50:].all()
