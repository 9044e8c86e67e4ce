from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

from shards import Dataset
from trainer.codec.codec import FrameRule
from trainer.codec.pixels import Pixels, to_signal
from trainer.config import FlowLossConfig, ProcessConfig, PyramidConfig, StreamConfig, TrainConfig
from trainer.process.build import build_process
from trainer.process.noise import noise_like
from trainer.process.objective import reconstruct
from trainer.stream.engine import Stream
from trainer.stream.source import Source
from trainer.temporal.recipe import PlainRecipe, TrainRecipe
from trainer.terms.denoised import denoise_batch, frame_levels

CONFIG = TrainConfig(
    stream=StreamConfig(frames=9, batch=2, threads=1, window=2),
    process=ProcessConfig(kind="flow", per_slot=1.0),
    pyramid=PyramidConfig(enabled=False),
    flow_loss=FlowLossConfig(psi=100.0),
)
PROCESS = build_process(CONFIG.process)


@dataclass(frozen=True)
class FourFrames(Pixels):
    """A latent is the first of its frames, with each row's noise level shown to the network."""

    rule: FrameRule = field(default_factory=lambda: FrameRule(factor=4, step=4))

    def encode(self, frames: Tensor) -> Tensor:
        return to_signal(frames[:, self.rule.first_frames(frames.shape[1])])


def network(x: Tensor, conditioning: Tensor, time: Tensor, context: Tensor | None) -> Tensor:
    """Of all that it is told."""
    told = 0 if context is None else context
    return x.tanh() + 0.01 * (conditioning + time)[:, :, None, None, None] + told


@pytest.fixture(scope="module")
def batch(made):
    dataset: Dataset = made.dataset
    source = Source(dataset=dataset, layer=dataset.layer("variational"))
    return next(iter(Stream(source, CONFIG.stream, TrainRecipe(CONFIG), seed=3)))


def test_it_is_the_process_own_loss_of_the_latents_at_the_levels_of_their_frames(batch) -> None:
    denoised, step = denoise_batch(
        PROCESS, FourFrames(), network, batch, seed=5, context=torch.tensor(0.5)
    )
    shown = [0, 1, 5]
    clips, levels = to_signal(batch.frames[:, shown]), batch.levels[:, shown]
    noise, context = noise_like(clips, 5, batch.positions), torch.tensor(0.5)
    expected = reconstruct(
        PROCESS,
        network,
        clips,
        noise,
        levels,
        torch.tensor([0.0, 1.0, 5.0]),
        batch.stage.interval,
        context,
    )
    assert torch.equal(denoised.loss, expected.loss)
    assert torch.equal(step.clean, expected.clean)
    assert torch.equal(step.levels, levels[:, [0, 1, 1, 1, 1, 2, 2, 2, 2]])
    assert len(batch.levels.unique()) == 18  # else the above would hold for any choice of slots


def test_the_step_has_what_terms_look_at(batch) -> None:
    _, step = denoise_batch(PROCESS, Pixels(), network, batch, seed=5)
    assert batch.flow is not None
    assert step.targets is batch.flow
    assert step.true is batch.frames
    assert (step.plans, step.keys) == (batch.plans, batch.keys)
    assert step.frames([1]).shape == (1, 9, 3, 48, 64)


def test_a_share_of_each_slot_counts(batch) -> None:
    whole, _ = denoise_batch(PROCESS, FourFrames(), network, batch, seed=5)
    share = torch.zeros(2, 9)
    share[:, [0, 1, 5]] = 0.25  # of the latents' first frames
    part, _ = denoise_batch(PROCESS, FourFrames(), network, batch, seed=5, share=share)
    torch.testing.assert_close(part.loss, 0.25 * whole.loss)


def test_a_sample_may_get_the_noise_of_another(batch) -> None:
    ours = list(batch.positions)
    own, _ = denoise_batch(PROCESS, Pixels(), network, batch, seed=5)
    same, _ = denoise_batch(PROCESS, Pixels(), network, batch, seed=5, noise_of=ours)
    other, _ = denoise_batch(PROCESS, Pixels(), network, batch, seed=5, noise_of=[ours[0], 7])
    assert torch.equal(own.each, same.each)
    assert (own.each == other.each).tolist() == [True, False]


def test_a_recipe_without_noise_levels_is_refused_by_name(made, batch) -> None:
    plain = next(iter(Stream(made.dataset, CONFIG.stream, PlainRecipe(9), seed=3)))
    with pytest.raises(ValueError, match="draws no noise levels, as TrainRecipe does"):
        denoise_batch(PROCESS, Pixels(), network, replace(plain, cursor=batch.cursor), seed=5)


def test_frames_have_the_noise_level_of_their_latent() -> None:
    levels = torch.tensor([[1.0, 2.0, 3.0]])
    wan = frame_levels(levels, FrameRule(factor=4, step=4), 9)
    assert wan.tolist() == [[1, 2, 2, 2, 2, 3, 3, 3, 3]]
    assert frame_levels(levels, FrameRule(), 3).tolist() == levels.tolist()
