"""The stream in Lightning: a module, the loader it trains on, exact resume from its checkpoints.

    python examples/lightning_module.py --data dataset --out run

The same command goes on from the last checkpoint.
"""

from pathlib import Path
from typing import Annotated

import torch
import tyro
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from shards import Dataset
from trainer import (
    Batch,
    Epochs,
    SpaceTimeTransformer,
    Stream,
    TrainRecipe,
    build_process,
    choose_source,
    denoise_batch,
    load_codec,
    open_terms,
)
from trainer.config import ModelConfig, ProcessConfig, StreamConfig, TrainConfig

CONFIG = TrainConfig(
    stream=StreamConfig(frames=16, batch=8),  # clips of all processes together
    process=ProcessConfig(kind="flow"),
    model=ModelConfig(dim=256, depth=6, heads=4, checkpointing=True),
)
Settings = Annotated[TrainConfig, tyro.conf.arg(name="")]  # flags as of `fluxshard train`


class VideoDiffusion(LightningModule):
    """Reconstruction and FlowLoss of a network; its loader is the stream."""

    def __init__(self, data: str, config: TrainConfig) -> None:
        super().__init__()
        self.data, self.config = data, config
        self.process, self.codec = build_process(config.process), load_codec(config.codec)
        self.network = SpaceTimeTransformer(config.model, self.codec.channels)

    def train_dataloader(self) -> Epochs[Batch]:
        """It has a length, so Lightning fetches nothing ahead, and its checkpoints are exact."""
        config, source = self.config, choose_source(Dataset(self.data), self.config)
        recipe, rank, ranks = TrainRecipe(config), self.trainer.global_rank, self.trainer.world_size
        stream = Stream(source, config.stream, recipe, seed=config.seed, rank=rank, ranks=ranks)
        self.codec = load_codec(config.codec, self.device)
        self.terms = open_terms(source.layer, stream.framings, config)
        return Epochs(stream, lambda batch: batch, steps=1000, device=self.device)

    def training_step(self, batch: Batch, _: int) -> torch.Tensor:
        denoised, step = denoise_batch(
            self.process, self.codec, self.network, batch, seed=self.config.seed
        )
        loss = denoised.loss + sum(term(step)[0] for term in self.terms)
        self.log("loss", loss, prog_bar=True, batch_size=len(batch))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.network.parameters(), lr=self.config.optim.learning_rate)


def main(data: str, out: Path, config: Settings = CONFIG) -> None:
    """Train on a dataset until `clips` are done, from the last checkpoint if there is one."""
    torch.manual_seed(config.seed)
    steps = config.clips // config.stream.batch
    saves = ModelCheckpoint(out, every_n_train_steps=1000, save_last=True)
    trainer = Trainer(max_steps=steps, max_epochs=-1, callbacks=saves, default_root_dir=out)
    trainer.fit(VideoDiffusion(data, config), ckpt_path="last")


if __name__ == "__main__":
    tyro.cli(main)
