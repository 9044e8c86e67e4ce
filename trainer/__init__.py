"""Training video diffusion models from the stream.

config     TrainConfig and its parts; presets: named runs
temporal   which stored frame stands in which slot
stream     dataset to batches                     process    noising and denoising
terms      losses beside the reconstruction       model      the network
run        the loop, checkpoints, the log
"""

from trainer.config import TrainConfig
from trainer.presets import PRESETS

__all__ = ["PRESETS", "TrainConfig"]
