"""Streams as other trainers open them: clips in order, no noise levels."""

from collections.abc import Callable

import pytest

from tests.trainer.conftest import FRAMES
from trainer.config import StreamConfig
from trainer.stream.engine import Stream
from trainer.temporal.recipe import PlainRecipe


@pytest.fixture
def open_stream(made) -> Callable[..., Stream]:
    """`open_stream(batch, rank, ranks)` of the six clips of `made`."""

    def open_(batch: int = 2, rank: int = 0, ranks: int = 1) -> Stream:
        config = StreamConfig(frames=FRAMES, batch=batch, threads=1, prefetch=1)
        recipe = PlainRecipe(FRAMES)
        return Stream(made.dataset, config, recipe, seed=0, rank=rank, ranks=ranks)

    return open_
