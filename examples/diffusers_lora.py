"""A LoRA for a Wan video model of diffusers, trained on shuffled clips (FluxFlow).

    python examples/diffusers_lora.py --data dataset --out lora \
        --pretrained Wan-AI/Wan2.1-T2V-1.3B-Diffusers

`WanPipeline.from_pretrained(…).load_lora_weights("lora")` samples with it.
"""

from itertools import islice
from typing import Annotated

import torch
import tyro

from shards import Dataset
from trainer import (
    Adapted,
    Conditioner,
    Stream,
    TrainRecipe,
    build_process,
    denoise_batch,
    in_precision,
    load_codec,
)
from trainer.config import (
    CodecConfig,
    ConditioningConfig,
    FluxFlowConfig,
    OptimConfig,
    ProcessConfig,
    StreamConfig,
    TrainConfig,
)
from trainer.presets import fluxflow

CONFIG = fluxflow(  # and no other method
    TrainConfig(
        clips=2000,
        stream=StreamConfig(frames=17, batch=1),  # 4·k + 1 frames
        fluxflow=FluxFlowConfig(mode="block", block=4, remainder="head"),  # whole latents move
        process=ProcessConfig(kind="flow", shift=3.0),
        optim=OptimConfig(learning_rate=1e-4),
    )
)
RANK, LAYERS = 16, ["to_q", "to_k", "to_v", "to_out.0"]
Settings = Annotated[TrainConfig, tyro.conf.arg(name="")]  # flags as of `fluxshard train`


def main(data: str, out: str, pretrained: str, config: Settings = CONFIG) -> None:
    """Fine-tune the network of a Wan pipeline, a folder or Hugging Face id, on a dataset."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    codec = load_codec(CodecConfig(name="vae", pretrained=pretrained), device)
    conditioner = Conditioner(ConditioningConfig(text=pretrained, length=512), device)
    from diffusers import WanPipeline, WanTransformer3DModel
    from peft import LoraConfig, get_peft_model_state_dict

    torch.manual_seed(config.seed)
    transformer = WanTransformer3DModel.from_pretrained(pretrained, subfolder="transformer")
    transformer.to(device).requires_grad_(False).enable_gradient_checkpointing()
    transformer.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=LAYERS))
    weights = [weight for weight in transformer.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=config.optim.learning_rate)
    network = in_precision(Adapted(transformer), config, device)  # bf16 on a GPU

    process, dataset = build_process(config.process), Dataset(data)
    stream = Stream(dataset, config.stream, TrainRecipe(config), seed=config.seed, device=device)
    for batch in islice(stream, config.clips // config.stream.batch):
        text = conditioner(batch.captions, batch.columns, [True] * len(batch))
        denoised, _ = denoise_batch(process, codec, network, batch, seed=config.seed, context=text)
        optimizer.zero_grad()
        denoised.loss.backward()
        optimizer.step()
        print(f"{batch.cursor.position} clips: loss {denoised.loss.item():.4f}")
    WanPipeline.save_lora_weights(out, get_peft_model_state_dict(transformer))


if __name__ == "__main__":
    tyro.cli(main)
