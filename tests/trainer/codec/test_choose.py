import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from shards import UsageError
from tests.autoencoders import TINY
from trainer.codec.choose import load_codec
from trainer.codec.pixels import Pixels
from trainer.codec.vae import Vae
from trainer.config import CodecConfig

FAMILY, ARGUMENTS = TINY["ltx"]
RANDOM = CodecConfig(name="vae", family=FAMILY, arguments=json.dumps(ARGUMENTS))
WAN = json.dumps(TINY["wan"][1])
CLIP = torch.full((1, 9, 3, 64, 64), 200, dtype=torch.uint8)


def load(config: CodecConfig) -> Vae:
    codec = load_codec(config)
    assert isinstance(codec, Vae)
    return codec


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("autoencoder")
    load(RANDOM).model.save_pretrained(folder)
    return folder


def test_no_autoencoder_is_the_pixels() -> None:
    assert load_codec(CodecConfig()) == Pixels()


def test_random_weights_are_the_same_every_time_and_disturb_no_generator() -> None:
    torch.manual_seed(1)
    one, drawn = load(RANDOM).encode(CLIP), torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn)
    assert torch.equal(load(RANDOM).encode(CLIP), one)


def test_a_saved_autoencoder_comes_back_by_its_folder_or_that_of_its_pipeline(folder: Path) -> None:
    pipeline = folder.parent / "pipeline"
    pipeline.mkdir()
    (pipeline / "vae").symlink_to(folder)
    for place in (folder, pipeline):
        codec = load(CodecConfig(name="vae", pretrained=str(place), slice=2))
        assert torch.equal(codec.encode(CLIP), load(RANDOM).encode(CLIP))
        assert codec.slice == 2


def test_an_autoencoder_computes_in_its_dtype_and_answers_in_float32(folder: Path) -> None:
    for codec in (
        load(CodecConfig(name="vae", pretrained=str(folder), dtype="bfloat16")),
        load(replace(RANDOM, dtype="bfloat16")),
    ):
        assert codec.model.dtype == torch.bfloat16
        latents = codec.encode(CLIP)
        assert latents.dtype == codec.decode(latents).dtype == torch.float32
        torch.testing.assert_close(latents, load(RANDOM).encode(CLIP), rtol=0.1, atol=0.05)


def test_tiles_are_those_of_the_class() -> None:
    assert load(replace(RANDOM, tiling=True)).model.use_tiling
    assert not load(RANDOM).model.use_tiling


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pretrained": "/no/such/folder"}, "codec.pretrained /no/such/folder: no autoencoder"),
        ({"family": "AutoencoderOobleck"}, "AutoencoderOobleck is no autoencoder whose frame rule"),
        ({"family": FAMILY, "arguments": '{"depth": 3}'}, "codec.arguments .*depth"),
    ],
)
def test_what_cannot_be_loaded_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_codec(CodecConfig(name="vae", **values))


def test_blocks_are_checkpointed_where_that_is_asked_for_and_works() -> None:
    assert load(replace(RANDOM, checkpointing=True)).model.is_gradient_checkpointing
    assert not load(RANDOM).model.is_gradient_checkpointing
    wan = CodecConfig(name="vae", family="AutoencoderKLWan", arguments=WAN, checkpointing=True)
    with pytest.raises(UsageError, match=r"AutoencoderKLWan cannot .* codec.checkpointing off"):
        load_codec(wan)


def test_a_class_that_this_diffusers_lacks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    old = SimpleNamespace(__version__="0.30")
    monkeypatch.setattr("trainer.codec.choose.import_diffusers", lambda: old)
    with pytest.raises(UsageError, match=r"diffusers 0.30 has no AutoencoderKLLTXVideo.*upgrade"):
        load_codec(RANDOM)


def test_missing_weights_are_refused_by_name(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    name = "diffusion_pytorch_model.safetensors"
    weights = load_file(folder / name)
    removed = sorted(weights)[0]
    weights.pop(removed)
    save_file(weights, tmp_path / name)
    with pytest.raises(UsageError, match=f"lacks weights of {FAMILY}.*{removed}"):
        load_codec(CodecConfig(name="vae", pretrained=str(tmp_path)))
