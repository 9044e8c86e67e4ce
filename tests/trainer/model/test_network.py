import json
from pathlib import Path
from typing import Any

import pytest
import torch

from shards import UsageError
from tests.trainer.model.test_adapted import SETTINGS, tiny
from trainer.config import ModelConfig
from trainer.model.adapted import Adapted
from trainer.model.network import load_network, require_per_slot
from trainer.model.transformer import SpaceTimeTransformer

pytestmark = pytest.mark.filterwarnings("ignore")  # of theirs
WAN = "WanTransformer3DModel"
FRESH = ModelConfig(family=WAN, arguments=json.dumps(SETTINGS[WAN]))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a network, and beside it a pipeline that holds the same."""
    folder = tmp_path_factory.mktemp("wan")
    model = tiny(WAN).model
    model.save_pretrained(folder / "alone")  # type: ignore[operator]
    model.save_pretrained(folder / "pipeline" / "transformer")  # type: ignore[operator]
    return folder


def test_the_default_is_our_transformer() -> None:
    network = load_network(ModelConfig(dim=16, depth=1, heads=2), 16, text=5, classes=3)
    assert isinstance(network, SpaceTimeTransformer)
    assert network.embed.in_features == 16 * 8**2
    assert network.text is not None
    assert network.classes is not None
    require_per_slot(network)


@pytest.mark.parametrize("place", ["alone", "pipeline"])
def test_a_network_starts_from_stored_weights(saved: Path, place: str) -> None:
    network = load_network(ModelConfig(pretrained=str(saved / place)), channels=4)
    stored = tiny(WAN).model.state_dict()
    assert isinstance(network, Adapted)
    assert network.training
    assert all(torch.equal(w, stored[name]) for name, w in network.model.state_dict().items())


def test_fresh_weights_are_drawn_from_the_generator() -> None:
    def drawn(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return next(load_network(FRESH, channels=4).parameters())

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))


def test_checkpointing_is_the_librarys() -> None:
    config = ModelConfig(family=WAN, arguments=FRESH.arguments, checkpointing=True)
    network = load_network(config, channels=4)
    assert isinstance(network, Adapted)
    assert network.model.is_gradient_checkpointing
    network(torch.zeros(1, 3, 4, 4, 8), torch.zeros(1, 3), torch.arange(3.0)).sum().backward()


@pytest.mark.parametrize(
    ("family", "blocks"),
    [("", {"Block"}), (WAN, {"WanTransformerBlock"}), ("MochiTransformer3DModel", None)],
)
def test_blocks_are_compiled_each_by_itself_if_asked_for(
    family: str, blocks: set[str] | None
) -> None:
    """Mochi names no blocks: it is compiled as a whole."""
    arguments = json.dumps(SETTINGS[family]) if family else ""
    for compiles in (False, True):
        config = ModelConfig(
            family=family, arguments=arguments, dim=16, depth=2, heads=2, compile=compiles
        )
        network = load_network(config, channels=4)
        compiled = {type(m).__name__ for m in network.modules() if m._compiled_call_impl}
        assert compiled == ((blocks or {family}) if compiles else set())
        assert not any("_orig_mod" in name for name in network.state_dict())


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(UsageError, match=r"denoises 4 channels and the codec has 3"):
        load_network(FRESH)
    with pytest.raises(UsageError, match=r"with 16 channels and is given 5"):
        load_network(FRESH, 4, text=5)
    with pytest.raises(UsageError, match=r"knows no classes"):
        load_network(FRESH, 4, classes=3)
    with pytest.raises(UsageError, match=r"model.arguments do not suit Wan.*layers"):
        load_network(ModelConfig(family=WAN, arguments='{"layers": 1}'), 4)


def test_a_network_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no adapter for the network 'UNet2DModel'"):
        load_network(ModelConfig(family="UNet2DModel"))
    with pytest.raises(UsageError, match=r"model.pretrained .*nothing holds no network"):
        load_network(ModelConfig(pretrained=str(tmp_path / "nothing")))


def test_missing_weights_are_not_made_up(saved: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    (tmp_path / "config.json").write_bytes((saved / "alone" / "config.json").read_bytes())
    weights = load_file(next((saved / "alone").glob("*.safetensors")))
    weights.pop("proj_out.weight")
    save_file(weights, tmp_path / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"lacks 1 weights of its class, as proj_out.weight"):
        load_network(ModelConfig(pretrained=str(tmp_path)), channels=4)


def test_a_network_of_one_level_is_refused_where_slots_differ() -> None:
    mochi = "MochiTransformer3DModel"
    config = ModelConfig(family=mochi, arguments=json.dumps(SETTINGS[mochi]))
    with pytest.raises(UsageError, match=rf"{mochi} takes one noise level a clip"):
        require_per_slot(load_network(config, channels=4))


class Own(torch.nn.Module):
    """A network as users write them."""

    per_slot = False

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(width, width)

    def forward(self, x: torch.Tensor, *_: object) -> torch.Tensor:
        return self.layer(x.movedim(2, -1)).movedim(-1, 2)


class Mute(torch.nn.Module):
    """It does not say whether it takes each slot's level."""


def test_a_network_of_the_users_own_is_named_by_where_it_is_imported_from() -> None:
    own = load_network(ModelConfig(family=f"{__name__}:Own", arguments='{"width": 4}'), channels=4)
    assert own(torch.zeros(1, 2, 4, 8, 8), torch.zeros(1, 2), torch.arange(2.0), None).requires_grad
    with pytest.raises(UsageError, match=r"Own takes one noise level a clip"):
        require_per_slot(own)
    compiled = load_network(ModelConfig(family=f"{__name__}:Own", compile=True))
    assert compiled._compiled_call_impl is not None


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"family": "no_such_package:Net"}, "No module named 'no_such_package'"),
        ({"family": f"{__name__}:None_"}, "has no attribute 'None_'"),
        ({"family": f"{__name__}:Own", "arguments": '{"depth": 1}'}, "depth"),
        (
            {"family": f"{__name__}:Mute"},
            "is no network: .* an attribute per_slot",
        ),
        ({"family": "json:JSONDecoder"}, "is no network"),
        ({"family": f"{__name__}:Own", "checkpointing": True}, "knows nothing of .*Own: drop it"),
    ],
)
def test_what_is_no_network_of_ones_own_is_refused(settings: dict[str, Any], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        load_network(ModelConfig(**settings))
