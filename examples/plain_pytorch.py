"""The stream in a plain PyTorch loop: flow matching, the temporal pyramid, FluxFlow and FlowLoss.

    python examples/plain_pytorch.py --data dataset --out run

Stopped at any time, the same command goes on from the last checkpoint: the same clips, in the same
order, with the same noise.
"""

from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from shards import Dataset
from trainer import (
    SpaceTimeTransformer,
    Stream,
    TrainRecipe,
    build_process,
    choose_source,
    denoise_batch,
    in_precision,
    load_codec,
    open_terms,
)
from trainer.config import ModelConfig, ProcessConfig, StreamConfig, TrainConfig

CONFIG = TrainConfig(
    stream=StreamConfig(frames=16, batch=8),
    process=ProcessConfig(kind="flow"),
    model=ModelConfig(dim=256, depth=6, heads=4, checkpointing=True),
)
Settings = Annotated[TrainConfig, tyro.conf.arg(name="")]  # flags as of `fluxshard train`


def main(data: str, out: Path, config: Settings = CONFIG) -> None:
    """Train on a dataset until `clips` are done."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    # What is shown, and what is asked of it beside the reconstruction: here FlowLoss.
    source = choose_source(Dataset(data), config)
    stream = Stream(source, config.stream, TrainRecipe(config), seed=config.seed, device=device)
    terms = open_terms(source.layer, stream.framings, config)

    # What learns: any module with the call of this one.
    codec, process = load_codec(config.codec, device), build_process(config.process)
    torch.manual_seed(config.seed)
    model = SpaceTimeTransformer(config.model, codec.channels).to(device)
    network = in_precision(model, config, device)  # bf16 on a GPU
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.optim.learning_rate)

    checkpoint, part = out / "checkpoint.pt", out / "checkpoint.part"
    stateful: dict[str, Any] = {"model": model, "optimizer": optimizer, "stream": stream}
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        for name, one in stateful.items():
            one.load_state_dict(state[name])

    left = len(range(stream.cursor.position, config.clips, config.stream.batch))
    for number, batch in enumerate(islice(stream, left), 1):
        denoised, step = denoise_batch(process, codec, network, batch, seed=config.seed)
        loss = denoised.loss + sum(term(step)[0] for term in terms)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.optim.clip_norm)
        optimizer.step()
        print(f"{batch.cursor.position} clips: loss {loss.item():.4f}")
        if number % 1000 == 0 or number == left:
            out.mkdir(parents=True, exist_ok=True)
            torch.save({name: one.state_dict() for name, one in stateful.items()}, part)
            part.replace(checkpoint)  # whole or not at all


if __name__ == "__main__":
    tyro.cli(main)
