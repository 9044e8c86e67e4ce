"""Clips of a model in memory: each by its number, told what is wished."""

from dataclasses import replace
from typing import Literal

import pytest
import torch

from fluxshard.commands.runs.wishes import Wish, context_of, evaluations, sample_clips
from trainer.codec.pixels import Pixels
from trainer.config import ConditioningConfig, ModelConfig, StreamConfig, TrainConfig
from trainer.model.text import Conditioner
from trainer.model.transformer import SpaceTimeTransformer
from trainer.run.restore import Trained
from trainer.sample.request import Request

CONFIG = TrainConfig(
    stream=StreamConfig(frames=8), model=ModelConfig(dim=16, depth=1, heads=2, patch=8)
)


@pytest.fixture(scope="module")
def model() -> Trained:
    torch.manual_seed(0)
    network = SpaceTimeTransformer(CONFIG.model).eval()
    torch.nn.init.normal_(network.head.weight, std=0.1)
    return Trained(network=network, codec=Pixels(), conditioner=Conditioner(CONFIG.conditioning))


def test_a_clip_is_a_function_of_its_number_in_any_company(model: Trained) -> None:
    request, called = Request(frames=8, steps=3, overlap=1, seed=0), []
    many, few = (Wish(count=count, request=request, given={}, heun=False) for count in (9, 2))
    clips = sample_clips(CONFIG, (16, 24), model, many, lambda: called.append(1))
    assert clips.shape == (9, 8, 3, 16, 24)
    assert len(called) == evaluations(CONFIG, model, many)
    alone = sample_clips(CONFIG, (16, 24), model, few)
    assert (alone.int() - clips[:2].int()).abs().max() <= 1  # but for rounding
    assert not torch.equal(clips[0], clips[8])


@pytest.mark.parametrize(("precision", "seen"), [("bf16", torch.bfloat16), ("auto", torch.float32)])
def test_a_model_samples_in_the_precision_of_its_run(
    model: Trained, precision: Literal["auto", "bf16"], seen: torch.dtype
) -> None:
    types = set[torch.dtype]()
    request = Request(frames=8, steps=3, overlap=1, seed=0)
    wish = Wish(count=1, request=request, given={}, heun=False)
    hook = model.network.register_forward_hook(lambda _, inputs, said: types.add(said.dtype))
    with hook:
        sample_clips(replace(CONFIG, precision=precision), (16, 24), model, wish)
    assert types == {seen}


class Reader(Conditioner):
    """Remembers the captions that it is given."""

    def __call__(self, captions, columns, told):
        self.read = list(captions)
        return super().__call__(captions, columns, told)


def test_prompts_and_classes_are_taken_in_turn() -> None:
    conditioner = Reader(ConditioningConfig(labels="kind", classes=3))
    config = TrainConfig(conditioning=ConditioningConfig(labels="kind", classes=3))
    wish = Wish(count=6, given={}, prompts=("a", "b"), labels=(2, 0))
    context = context_of(conditioner, config, wish, [3, 4, 5])
    assert conditioner.read == ["b", "a", "b"]
    assert context is not None
    assert context.labels is not None
    assert context.labels.tolist() == [0, 2, 0]
    unsaid = context_of(conditioner, config, Wish(count=1, given={}), [0])
    assert unsaid is not None
    assert unsaid.labels is not None
    assert unsaid.labels.tolist() == [-1]
