"""What the scripts are run on: the little dataset, in sizes that a test has time for."""

from dataclasses import replace

import pytest

from tests.trainer.conftest import made, one_compute_thread  # noqa: F401  # fixtures
from trainer.config import FlowLossConfig, ModelConfig, StreamConfig, TrainConfig


@pytest.fixture
def small():
    """`small(config)`: a script's configuration, made small."""

    def made_small(config: TrainConfig) -> TrainConfig:
        return replace(
            config,
            clips=6,
            stream=StreamConfig(frames=9, batch=2, threads=1, window=2),
            model=ModelConfig(dim=16, depth=1, heads=2, patch=8),
            flow_loss=FlowLossConfig(psi=10.0),  # open at nearly all levels
        )

    return made_small
