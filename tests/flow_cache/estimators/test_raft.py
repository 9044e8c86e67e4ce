"""The real torchvision code with random weights, placed where torch hub looks for its own."""

import hashlib
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from flow_cache.estimators import EstimatorUnavailable, load_estimator, weights
from flow_cache.estimators.network import import_torchvision

try:
    import_torchvision()
except EstimatorUnavailable as error:
    pytest.skip(f"torchvision: {error}", allow_module_level=True)

MODELS = ["raft_small", "raft_large"]


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


def save_random_weights(model: str, hub: Path) -> Path:
    zoo = import_module("torchvision.models.optical_flow")
    torch.manual_seed(0)
    network = getattr(zoo, model)(weights=None)
    url = getattr(zoo, model.title() + "_Weights").DEFAULT.url
    hub.mkdir(parents=True)
    torch.save(network.state_dict(), hub / url.rsplit("/", 1)[-1])
    return hub / url.rsplit("/", 1)[-1]


def frames(count: int = 3, size: tuple[int, int] = (44, 60)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, *size), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("model", MODELS)
def test_runs_the_real_network(model: str, hub: Path) -> None:
    file = save_random_weights(model, hub)
    estimator = load_estimator(model, updates=2)
    assert estimator.weights_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert estimator.revision == "torchvision-" + ".".join(
        import_module("torchvision").__version__.split(".")[:2]
    )
    clip = frames()
    pairs = [(0, 1), (1, 1), (2, 0)]
    flow, visible = estimator.clip(clip, pairs)
    assert flow.shape == (3, 2, 44, 60)
    assert visible is None
    assert flow.isfinite().all()
    assert flow[1].eq(0).all()
    for pair, alone in zip(pairs, flow, strict=True):
        assert torch.equal(estimator.clip(clip[list(pair)], [(0, 1)])[0][0], alone)
    floats = clip.float() / 255
    assert torch.equal(estimator.pair(floats[[0, 1, 2]], floats[[1, 1, 0]]), flow)


@pytest.mark.parametrize("model", MODELS)
def test_gradient_reaches_frames_and_no_weight(model: str, hub: Path) -> None:
    save_random_weights(model, hub)
    first, second = (frames(2).float() / 255).split(1)
    flow = load_estimator(model, updates=1).pair(first.requires_grad_(), second)
    flow.square().mean().backward()
    assert first.grad is not None
    assert first.grad.isfinite().all()
    assert first.grad.ne(0).any()


def test_agrees_with_torchvision_called_directly(hub: Path) -> None:
    """At a size that needs no padding: normalisation and choice of output are right."""
    file = save_random_weights("raft_small", hub)
    network = import_module("torchvision.models.optical_flow").raft_small(weights=None).eval()
    network.load_state_dict(torch.load(file))
    clip = frames(2, (128, 136))
    first, second = (clip.float() / 127.5 - 1).split(1)
    with torch.no_grad():
        expected = network(first, second, num_flow_updates=3)[-1]
    flow, _ = load_estimator("raft_small", updates=3).clip(clip, [(0, 1)])
    torch.testing.assert_close(flow, expected, atol=1e-4, rtol=1e-4)


def test_reduced_precision_is_near_full(hub: Path) -> None:
    save_random_weights("raft_small", hub)
    clip = frames(2, (128, 128))
    full, half = (
        load_estimator("raft_small", updates=2, precision=precision).clip(clip, [(0, 1)])[0]
        for precision in ("float32", "bfloat16")
    )
    assert half.dtype == torch.float32
    assert (full - half).abs().mean() < 0.1 * full.abs().mean()


def test_wrong_parameters(hub: Path) -> None:
    with pytest.raises(ValueError, match="unknown weights 'X' of raft_small; choose C_T_V1"):
        load_estimator("raft_small", weights="X")
    with pytest.raises(ValueError, match="unknown precision 'int8'; choose float32"):
        load_estimator("raft_small", precision="int8")
    with pytest.raises(ValueError, match="at least one update, got 0"):
        load_estimator("raft_small", updates=0)


def test_missing_weights_name_the_remedy(monkeypatch: pytest.MonkeyPatch, hub: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(EstimatorUnavailable, match=r"raft_small_C_T_V2.*no route.*put the file"):
        load_estimator("raft_small")
    assert weights.hub_file("https://x.org/a/b.pth") == hub / "b.pth"


def test_missing_torchvision_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torchvision")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EstimatorUnavailable, match="pip install torchvision"):
        import_torchvision()
