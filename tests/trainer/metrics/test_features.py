from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shards import UsageError
from tests.trainer.metrics.moving import moving
from trainer.metrics.features import load_features


class Plain(nn.Module):
    """Says the means and the extremes of what it is given."""

    def forward(self, clips: Tensor) -> Tensor:
        means = clips.mean(dim=[2, 3, 4])
        return torch.cat([means, clips.amin(dim=[2, 3, 4]), clips.amax(dim=[2, 3, 4])], dim=1)


class LikeI3d(nn.Module):
    """The call of StyleGAN-V's file: logits, unless it is asked for features."""

    def forward(
        self, x: Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False
    ) -> Tensor:
        sides = torch.tensor([[float(x.shape[3]), float(x.shape[4])]]).expand(x.shape[0], 2)
        told = torch.tensor([[float(rescale), float(resize), float(return_features)]])
        least, most = x.amin(dim=[1, 2, 3, 4]), x.amax(dim=[1, 2, 3, 4])
        ends = torch.stack([least, most], dim=1)
        return torch.cat([sides, told.expand(x.shape[0], 3), ends], dim=1)


def scripted(module: nn.Module, path: Path) -> str:
    torch.jit.script(module).save(str(path))
    return str(path)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_file_of_the_user_gets_clips_from_0_to_1(tmp_path: Path) -> None:
    network = load_features(scripted(Plain(), tmp_path / "net.pt"))
    clips = moving(seed=3)
    found = network(clips)
    assert (found.shape, found.dtype) == ((1, 9), np.float64)
    np.testing.assert_allclose(found[0, :3], clips[0].mean((0, 2, 3)), rtol=1e-5)
    assert (found[:, 3:6].min(), found[:, 6:].max()) == (clips.min(), clips.max())
    assert network.name.startswith("net.pt ")
    assert len(network.name) == len("net.pt ") + 12


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_the_usual_i3d_is_called_as_its_authors_do(tmp_path: Path) -> None:
    """Squares of 224 pixels in [-1, 1], neither scaled by it nor resized; features, not logits."""
    network = load_features(scripted(LikeI3d(), tmp_path / "i3d.pt"))
    for size in ((48, 64), (64, 48), (300, 260)):
        clips = moving(2, size)
        found = network(clips)
        assert found[0, :5].tolist() == [224, 224, 0, 0, 1]
        least, most = found[0, 5:]
        assert -1 <= least < 2 * clips.min() - 1 + 0.2
        assert 2 * clips.max() - 1 - 0.2 < most <= 1


def test_an_entry_of_torch_hub_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "hubconf.py").write_text(
        "import torch\n\ndef pooled(**_):\n    return torch.nn.AdaptiveAvgPool3d(1)\n"
    )
    network = load_features(f"hub:{tmp_path}:pooled")
    assert network(moving()).shape == (1, 3)
    assert network.name.endswith(":pooled")
    with pytest.raises(UsageError, match=r"no network 'hub:.*:missing'"):
        load_features(f"hub:{tmp_path}:missing")


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_without_a_network_there_is_no_fvd(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--fvd-network PATH"):
        load_features("")
    with pytest.raises(UsageError, match=r"absent.pt cannot be read as a TorchScript file"):
        load_features(str(tmp_path / "absent.pt"))
    (tmp_path / "broken.pt").write_bytes(b"no network")
    with pytest.raises(UsageError, match=r"broken.pt cannot be read as a TorchScript file"):
        load_features(str(tmp_path / "broken.pt"))
