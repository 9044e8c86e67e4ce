"""A stand-in for a checkout of DOT with the interface that the estimator uses.

The real code runs in tests/manual/run_dot.py.
"""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from flow_cache.estimators import EstimatorUnavailable, FlowEstimator, load_estimator
from flow_cache.estimators.dot import estimator as dot

STAND_IN = '''
import numpy as np
import torch


class Tracker(torch.nn.Module):
    """Points of every frame that move by (2, 1) pixels a frame; none is seen in frame 3."""

    def __init__(self):
        super().__init__()
        self.model = torch.nn.Linear(2, 1)

    def forward(self, data, mode, num_tracks, sim_tracks):
        assert mode == "tracks_at_motion_boundaries" and num_tracks % sim_tracks == 0
        t, h, w = (data["video"].shape[i] for i in (1, 3, 4))
        start = torch.randint(8, 40, (num_tracks, 2)) + torch.tensor(np.random.rand(num_tracks, 2))
        steps = torch.arange(t).view(t, 1, 1) * torch.tensor([2, 1])
        seen = (torch.arange(t) != 3).view(t, 1, 1).expand(t, num_tracks, 1)
        return {"tracks": torch.cat([start + steps, seen], -1)[None].float()}


class Refiner:
    """Flow is the tracks' mean motion plus a little of the first frame's mean colour."""

    def __init__(self, size):
        self.size = size

    def __call__(self, data, mode, interpolation_version=None, alpha_thresh=None):
        if mode == "feats":
            assert data["video"].shape[-2:] == self.size
            return {"feats": data["video"].mean((-2, -1))}
        assert (mode, interpolation_version) == ("flow_with_tracks_init", "torch")
        h, w = self.size
        motion = (data["tgt_points"] - data["src_points"])[0, :, :2].mean(0)
        flow = (motion * torch.tensor([w - 1, h - 1])).expand(1, h, w, 2)
        return {"flow": flow + 0 * data["src_feats"].mean(), "alpha": torch.ones(1, h, w)}

    def model(self, src_feats, tgt_feats):
        h, w = self.size
        return torch.full((1, h, w, 2), -7.0), torch.full((1, h, w), 0.7)


class DenseOpticalTracker(torch.nn.Module):
    def __init__(self, *, height, width, tracker_path, **others):
        super().__init__()
        self.point_tracker, self.optical_flow_refiner = Tracker(), Refiner((height, width))
        if tracker_path is not None:
            self.point_tracker.model.load_state_dict(torch.load(tracker_path), strict=False)
'''
TRACKER = {"weight": torch.ones(1, 2), "bias": torch.zeros(1)}
PACKAGES = ("timm", "einops", "einshape", "scipy", "tqdm")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Torch's home with the stand-in checkout and weights, and empty packages DOT asks for."""
    checkout = tmp_path / "hub" / f"16lemoing_dot_{dot.COMMIT[:7]}"
    models = checkout / "dot" / "models"
    models.mkdir(parents=True)
    (checkout / "dot" / "__init__.py").write_text("")
    (models / "__init__.py").write_text(STAND_IN)
    for name in ("dense_optical_tracking", "optical_flow", "point_tracking"):
        (models / f"{name}.py").write_text("tqdm = None\n")
    packages = tmp_path / "packages"
    for name in PACKAGES:
        (packages / name).mkdir(parents=True)
        (packages / name / "__init__.py").write_text("")
    weights = tmp_path / "hub" / "checkpoints"
    weights.mkdir()
    for name in ("cvo_raft_patch_8", "movi_f_raft_patch_4_alpha"):
        torch.save({name: torch.zeros(1)}, weights / f"{name}.pth")
    torch.save(TRACKER, weights / "panning_movi_e_tapir.pth")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("FLUXSHARD_DOT", raising=False)
    monkeypatch.syspath_prepend(str(packages))
    monkeypatch.setattr(dot, "import_torchvision", lambda: None)
    monkeypatch.setattr(dot, "CODE_SHA256", dot.code_sha256(checkout))
    dot._build.cache_clear()
    yield tmp_path
    dot._build.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "dot"]:
        del sys.modules[name]


@pytest.fixture
def estimator(home: Path) -> FlowEstimator:
    return load_estimator("dot", tracks=32)


FRAMES = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 3, 44, 60) * 20


def test_one_tracker_run_serves_all_pairs(estimator: FlowEstimator) -> None:
    flow, visible = estimator.clip(FRAMES, [(0, 1), (2, 0), (1, 1)])
    assert flow.shape == (3, 2, 44, 60)
    assert visible is not None
    assert visible.all()
    expected = torch.tensor([[2.0, 1.0], [-4.0, -2.0], [0.0, 0.0]])
    torch.testing.assert_close(flow.mean((-2, -1)), expected, atol=1e-4, rtol=0)
    assert flow[2].eq(0).all()


def test_a_frame_without_visible_tracks(estimator: FlowEstimator) -> None:
    flow, visible = estimator.clip(FRAMES, [(3, 0)])
    assert flow.eq(-7).all()
    assert visible is not None
    assert not visible.any()


def test_seeded_and_leaves_the_generators_alone(estimator: FlowEstimator) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state(), np.random.get_state(legacy=False)  # noqa: NPY002
    first, _ = estimator.clip(FRAMES, [(0, 1)])
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_equal(np.random.get_state(legacy=False), before[1])  # noqa: NPY002
    torch.manual_seed(6)
    assert torch.equal(estimator.clip(FRAMES, [(0, 1)])[0], first)


def test_no_device_but_the_frames_own_is_seeded(
    estimator: FlowEstimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seeded(seed: int) -> None:
        raise AssertionError(f"every CUDA device was seeded with {seed}")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded)
    estimator.clip(FRAMES, [(0, 1)])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="cuda: no device")
def test_the_frames_device_is_seeded_and_left_alone() -> None:
    torch.cuda.manual_seed(5)
    before, draws = torch.cuda.get_rng_state(), []
    for _ in range(2):
        with dot._seeded(3, torch.device("cuda", torch.cuda.current_device())):
            draws.append(torch.rand(4, device="cuda"))
        assert torch.equal(torch.cuda.get_rng_state(), before)
    assert torch.equal(draws[0], draws[1])


def test_the_tracker_has_all_of_its_weights(estimator: FlowEstimator) -> None:
    estimator.clip(FRAMES, [(0, 1)])
    tracker = estimator._model((64, 64)).point_tracker.model  # type: ignore[attr-defined]
    assert torch.equal(tracker.weight, TRACKER["weight"])


@pytest.mark.parametrize(
    ("weights", "complaint"),
    [
        (
            {"weight": torch.ones(1, 2)},
            r'not those of DOT\'s tracker; remove .*(?s:.*)Missing.*"bias"',
        ),
        ({**TRACKER, "more": torch.ones(1)}, r'remove the file(?s:.*)Unexpected.*"more"'),
    ],
)
def test_weights_that_lack_some_or_have_more_are_refused(
    home: Path, weights: dict[str, torch.Tensor], complaint: str
) -> None:
    torch.save(weights, home / "hub" / "checkpoints" / "panning_movi_e_tapir.pth")
    with pytest.raises(ValueError, match=complaint):
        load_estimator("dot", tracks=32).clip(FRAMES, [(0, 1)])


def test_the_checkout_shadows_no_module(estimator: FlowEstimator) -> None:
    before = list(sys.path)
    estimator.clip(FRAMES, [(0, 1)])
    assert sys.path == before
    assert sys.modules["dot"].__file__ == str(dot.find_checkout() / "dot" / "__init__.py")


def test_another_package_called_dot_is_not_taken_for_it(
    estimator: FlowEstimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = ModuleType("dot")
    other.__file__ = "/site-packages/dot/__init__.py"
    monkeypatch.setitem(sys.modules, "dot", other)
    with pytest.raises(ImportError, match=r"so is /site-packages/dot/__init__.py"):
        estimator.clip(FRAMES, [(0, 1)])


def test_pair_is_a_clip_of_two_and_carries_gradient(estimator: FlowEstimator) -> None:
    first, second = (FRAMES[i : i + 1].float() / 255 for i in (0, 1))
    flow = estimator.pair(first.requires_grad_(), second)
    assert torch.equal(flow.detach(), estimator.clip(FRAMES[:2], [(0, 1)])[0])
    assert flow.requires_grad
    assert estimator.pair(first[:0], second[:0]).shape == (0, 2, 44, 60)


def test_describes_itself(estimator: FlowEstimator) -> None:
    assert estimator.whole_clip
    assert estimator.differentiable
    assert estimator.params == {"tracker": "tapir", "tracks": 32, "seed": 0}
    assert estimator.weights_sha256 is not None
    assert len(estimator.weights_sha256) == 64


def test_wrong_parameters(home: Path) -> None:
    with pytest.raises(ValueError, match="unknown tracker 'klt'; choose tapir"):
        load_estimator("dot", tracker="klt")
    with pytest.raises(ValueError, match="multiple, got 3000"):
        load_estimator("dot", tracks=3000)


def test_missing_or_changed_checkout(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkout = dot.find_checkout()
    (checkout / "dot" / "models" / "optical_flow.py").write_text("# edited\n")
    with pytest.raises(EstimatorUnavailable, match=f"is not commit {dot.COMMIT}: git clone"):
        load_estimator("dot")
    shutil.rmtree(checkout)
    with pytest.raises(EstimatorUnavailable, match=r"no checkout of DOT at .* git clone https"):
        load_estimator("dot")
    monkeypatch.setenv("FLUXSHARD_DOT", "/nowhere/dot")
    with pytest.raises(EstimatorUnavailable, match="/nowhere/dot"):
        load_estimator("dot")


def test_missing_package(home: Path) -> None:
    shutil.rmtree(home / "packages" / "einshape")
    if any((Path(folder) / "einshape").is_dir() for folder in sys.path):
        pytest.skip("einshape: is really installed")
    with pytest.raises(EstimatorUnavailable, match=r"pip install einshape$"):
        load_estimator("dot")
