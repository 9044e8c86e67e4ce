"""The stream in a loop of Accelerate: several GPUs, accumulation, exact resume.

    accelerate launch examples/accelerate_loop.py --data dataset --out run

Accelerate's checkpoints hold the state of the stream, which any number of processes goes on from.
"""

from itertools import islice
from pathlib import Path
from typing import Annotated

import torch
import tyro
from accelerate import Accelerator

from shards import Dataset
from trainer import (
    SpaceTimeTransformer,
    Stream,
    TrainRecipe,
    build_process,
    choose_source,
    denoise_batch,
    load_codec,
    open_terms,
)
from trainer.config import ModelConfig, OptimConfig, ProcessConfig, StreamConfig, TrainConfig

CONFIG = TrainConfig(
    stream=StreamConfig(frames=16, batch=8),  # clips of all processes together
    process=ProcessConfig(kind="flow"),
    model=ModelConfig(dim=256, depth=6, heads=4, checkpointing=True),
    optim=OptimConfig(accumulate=2),  # parts of a batch, one after the other
)
Settings = Annotated[TrainConfig, tyro.conf.arg(name="")]  # flags as of `fluxshard train`


def main(data: str, out: Path, config: Settings = CONFIG) -> None:
    """Train on a dataset until `clips` are done."""
    accelerator = Accelerator(gradient_accumulation_steps=config.optim.accumulate)
    device, rank, ranks = accelerator.device, accelerator.process_index, accelerator.num_processes

    # Each process has its own rows of each batch; `prepare` is not for the stream.
    source, recipe = choose_source(Dataset(data), config), TrainRecipe(config)
    stream = Stream(
        source, config.stream, recipe, seed=config.seed, rank=rank, ranks=ranks, device=device
    )
    terms = open_terms(source.layer, stream.framings, config)
    codec, process = load_codec(config.codec, device), build_process(config.process)
    torch.manual_seed(config.seed)
    model = SpaceTimeTransformer(config.model, codec.channels)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.optim.learning_rate)
    model, optimizer = accelerator.prepare(model, optimizer)

    accelerator.register_for_checkpointing(stream)
    if checkpoint := max(out.glob("[0-9]*"), default=None):
        accelerator.load_state(str(checkpoint))

    left = len(range(stream.cursor.position, config.clips, config.stream.batch))
    for number, batch in enumerate(islice(stream, left), 1):
        for part in batch.split(config.optim.accumulate):
            with accelerator.accumulate(model):
                denoised, step = denoise_batch(process, codec, model, part, seed=config.seed)
                loss = denoised.loss + sum(term(step)[0] for term in terms)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), config.optim.clip_norm)
                optimizer.step()
                optimizer.zero_grad()
        accelerator.print(f"{batch.cursor.position} clips: loss {loss.item():.4f}")
        if number % 1000 == 0 or number == left:
            accelerator.save_state(str(out / "part"))
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:  # whole or not at all
                (out / "part").rename(out / f"{batch.cursor.position:09d}")


if __name__ == "__main__":
    tyro.cli(main)
