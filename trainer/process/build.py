"""The process that a configuration names."""

import math

from trainer.config import ProcessConfig
from trainer.process.ddim import Ddim, ladder
from trainer.process.edm import Edm
from trainer.process.flow_matching import FlowMatching
from trainer.process.laws import LogNormal, Timesteps, Uniform
from trainer.process.process import Process


def build_process(config: ProcessConfig) -> Process:
    """EDM, flow matching or DDIM, with its law of levels."""
    if config.kind == "ddim":
        rungs = tuple(ladder(config.betas).tolist())
        return Ddim(predicts=config.predicts, law=Timesteps(rungs))
    if config.kind == "edm":
        mean = -1.2 if config.mean is None else config.mean
        std = 1.2 if config.std is None else config.std
        return Edm(config.sigma_data, LogNormal(mean, std, highest=config.sigma_max))
    if config.uniform:
        return FlowMatching(Uniform(config.shift))
    mean, std = config.mean or 0.0, config.std or 1.0
    return FlowMatching(LogNormal(mean + math.log(config.shift), std, lowest=0.001))
