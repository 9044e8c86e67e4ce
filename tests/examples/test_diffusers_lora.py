from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from examples.diffusers_lora import CONFIG, main
from tests.autoencoders import TINY
from tests.trainer.model.test_adapted import WAN
from tests.trainer.model.test_text import folder  # noqa: F401  # a fixture
from trainer.config import StreamConfig
from trainer.libraries import import_diffusers

pytestmark = pytest.mark.filterwarnings("ignore")  # of theirs


@pytest.fixture
def wan(folder: Path) -> Path:  # noqa: F811
    """The parts of a Wan pipeline, tiny and of random weights."""
    torch.manual_seed(0)
    diffusers: Any = import_diffusers()
    family, arguments = TINY["wan"]
    getattr(diffusers, family)(**arguments).save_pretrained(folder / "pipeline" / "vae")
    transformer = diffusers.WanTransformer3DModel(**WAN | {"in_channels": 16, "out_channels": 16})
    transformer.save_pretrained(folder / "pipeline" / "transformer")
    return folder / "pipeline"


@torch.no_grad()
def answer(transformer: Any) -> Tensor:
    torch.manual_seed(0)
    clip, text = torch.randn(1, 16, 2, 4, 4), torch.randn(1, 3, WAN["text_dim"])
    return transformer(clip, torch.tensor([500.0]), text, return_dict=False)[0]


def test_the_adapter_is_trained_and_diffusers_loads_it(made, wan: Path, tmp_path: Path) -> None:
    config = replace(
        CONFIG,
        clips=2,
        stream=StreamConfig(frames=9, batch=1, threads=1),
        fluxflow=replace(CONFIG.fluxflow, count=2),  # of two blocks
    )
    main(made.dataset.url, str(tmp_path), str(wan), config)
    weights = load_file(tmp_path / "pytorch_lora_weights.safetensors")
    assert all(name.startswith("transformer.blocks.0.attn") for name in weights)
    ups = [weight for name, weight in weights.items() if "lora_B" in name]
    assert len(ups) == 8  # four layers of each attention
    assert all(weight.any() for weight in ups)  # they start as zero
    diffusers: Any = import_diffusers()
    transformer = diffusers.WanTransformer3DModel.from_pretrained(wan / "transformer")
    before, parts = answer(transformer), ("tokenizer", "text_encoder", "vae", "scheduler")
    pipe = diffusers.WanPipeline(transformer=transformer, **dict.fromkeys(parts))
    pipe.load_lora_weights(str(tmp_path))
    assert not torch.equal(answer(transformer), before)
