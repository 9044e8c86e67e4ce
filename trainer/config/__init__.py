"""The configuration of a training run, one file for each of its parts.

The fields are documented one by one, below each, because these texts are the help of the command
line; other classes list theirs under `Attributes:`. A value outside its rule raises `UsageError`.
"""

from trainer.config.bucket import Bucket
from trainer.config.codec import CodecConfig
from trainer.config.losses import FlowLossConfig, SmoothnessConfig, WarpingConfig
from trainer.config.model import ConditioningConfig, ModelConfig
from trainer.config.optim import OptimConfig
from trainer.config.process import ProcessConfig
from trainer.config.run import TrainConfig
from trainer.config.stream import StreamConfig
from trainer.config.temporal import FluxFlowConfig, PyramidConfig
from trainer.config.validation import ValidationConfig

__all__ = [
    "Bucket",
    "CodecConfig",
    "ConditioningConfig",
    "FlowLossConfig",
    "FluxFlowConfig",
    "ModelConfig",
    "OptimConfig",
    "ProcessConfig",
    "PyramidConfig",
    "SmoothnessConfig",
    "StreamConfig",
    "TrainConfig",
    "ValidationConfig",
    "WarpingConfig",
]
