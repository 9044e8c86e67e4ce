"""Training video diffusion models from the stream: temporal plans, losses, model, loop.

config      TrainConfig and its parts; presets: named runs
plan        TemporalPlan: which stored frame stands in which slot
fluxflow    FluxFlow: shuffles in time            pyramid    TPDiff: fewer frames where it is noisy
diffusion   EDM: preconditioning, noise levels    flowloss   FlowLoss: motion against stored flow
draw        what is random about a sample         losses     the denoising objective of a batch
loader      dataset to batches, on threads        fill       one sample into its place in a batch
model       a small space-time transformer        loop       train()
checkpoint, metrics, timer                        what a run leaves behind
"""

from trainer.config import TrainConfig
from trainer.presets import PRESETS

__all__ = ["PRESETS", "TrainConfig"]
